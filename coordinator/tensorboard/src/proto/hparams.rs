//! Package `tensorboard.hparams`: `plugins/hparams/api.proto` and `plugin_data.proto`; and what they use of
//! `google/protobuf/struct.proto`.

use std::collections::BTreeMap;

/// The content of the plugin data of the HParams plugin's summaries.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct HParamsPluginData {
    #[prost(oneof = "Data", tags = "2, 3, 4")]
    pub(crate) data: Option<Data>,
}

/// `HParamsPluginData.data`.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Data {
    #[prost(message, tag = "2")]
    Experiment(Experiment),
    #[prost(message, tag = "3")]
    SessionStartInfo(SessionStartInfo),
    #[prost(message, tag = "4")]
    SessionEndInfo(SessionEndInfo),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Experiment {
    #[prost(double, tag = "3")]
    pub(crate) time_created_secs: f64,
    #[prost(message, repeated, tag = "4")]
    pub(crate) hparam_infos: Vec<HParamInfo>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) metric_infos: Vec<MetricInfo>,
    #[prost(string, tag = "6")]
    pub(crate) name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct HParamInfo {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(enumeration = "DataType", tag = "4")]
    pub(crate) r#type: i32,
    #[prost(oneof = "Domain", tags = "5, 6")]
    pub(crate) domain: Option<Domain>,
    /// Whether there are two values or more.
    #[prost(bool, tag = "7")]
    pub(crate) differs: bool,
}

/// `HParamInfo.domain`.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Domain {
    #[prost(message, tag = "5")]
    DomainDiscrete(ListValue),
    #[prost(message, tag = "6")]
    DomainInterval(Interval),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum DataType {
    Unset = 0,
    String = 1,
    Float64 = 3,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Interval {
    #[prost(double, tag = "1")]
    pub(crate) min_value: f64,
    #[prost(double, tag = "2")]
    pub(crate) max_value: f64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct MetricInfo {
    #[prost(message, optional, tag = "1")]
    pub(crate) name: Option<MetricName>,
    #[prost(enumeration = "DatasetType", tag = "5")]
    pub(crate) dataset_type: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct MetricName {
    /// The folder below the session's.
    #[prost(string, tag = "1")]
    pub(crate) group: String,
    #[prost(string, tag = "2")]
    pub(crate) tag: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum DatasetType {
    DatasetUnknown = 0,
    DatasetValidation = 2,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SessionStartInfo {
    #[prost(btree_map = "string, message", tag = "1")]
    pub(crate) hparams: BTreeMap<String, Value>,
    #[prost(double, tag = "5")]
    pub(crate) start_time_secs: f64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SessionEndInfo {
    #[prost(enumeration = "Status", tag = "1")]
    pub(crate) status: i32,
    #[prost(double, tag = "2")]
    pub(crate) end_time_secs: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Status {
    Unknown = 0,
    Success = 1,
    Failure = 2,
}

/// `google.protobuf.ListValue`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ListValue {
    #[prost(message, repeated, tag = "1")]
    pub(crate) values: Vec<Value>,
}

/// `google.protobuf.Value`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Value {
    #[prost(oneof = "Kind", tags = "2, 3")]
    pub(crate) kind: Option<Kind>,
}

/// `google.protobuf.Value.kind`.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Kind {
    #[prost(double, tag = "2")]
    NumberValue(f64),
    #[prost(string, tag = "3")]
    StringValue(String),
}
