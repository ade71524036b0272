//! Event files and their summaries, as TensorFlow writes them.

use bytes::Bytes;
use prost::Message;
use quartet_shared::clock::Timestamp;

use crate::proto::event::{
    DataType, Dim, Event, PluginData, Summary, SummaryMetadata, TensorProto, TensorShapeProto,
    Value, What,
};
use crate::proto::hparams::{Data, HParamsPluginData};
use crate::record;

/// The version of the format, in the first event of a file.
const FILE_VERSION: &str = "brain.Event:2";

/// The content of an event file: the version of the format, then an event for each summary. All of them
/// happened at one time (0 if it is not known) and one step.
pub(crate) fn event_file(at: Option<Timestamp>, step: i64, summaries: Vec<Value>) -> Bytes {
    let wall_time = seconds(at);
    let version = Event {
        wall_time,
        step: 0,
        what: Some(What::FileVersion(FILE_VERSION.to_owned())),
    };
    let events = summaries.into_iter().map(|summary| Event {
        wall_time,
        step,
        what: Some(What::Summary(Summary {
            value: vec![summary],
        })),
    });
    let mut file = Vec::new();
    for event in std::iter::once(version).chain(events) {
        record::append(&mut file, &event.encode_to_vec());
    }
    file.into()
}

/// Seconds since the Unix epoch; 0 if the time is not known.
pub(crate) fn seconds(at: Option<Timestamp>) -> f64 {
    at.map_or(0.0, Timestamp::seconds)
}

/// A scalar, as `tf.summary.scalar` of TensorFlow 2 makes it: a 32-bit float.
pub(crate) fn scalar(tag: &str, value: f64) -> Value {
    let content = (value as f32).to_le_bytes().to_vec();
    value_of("scalars", tag, Vec::new(), Vec::new(), content)
}

/// A summary of the HParams plugin, as `tensorboard/plugins/hparams/metadata.py` makes it: its data are in
/// the metadata, and its tensor is empty.
pub(crate) fn hparams(tag: &str, data: Data) -> Value {
    let data = HParamsPluginData { data: Some(data) };
    let no_values = vec![Dim { size: 0 }];
    value_of("hparams", tag, data.encode_to_vec(), no_values, Vec::new())
}

fn value_of(
    plugin: &str,
    tag: &str,
    plugin_content: Vec<u8>,
    dim: Vec<Dim>,
    tensor_content: Vec<u8>,
) -> Value {
    Value {
        tag: tag.to_owned(),
        tensor: Some(TensorProto {
            dtype: DataType::DtFloat.into(),
            tensor_shape: Some(TensorShapeProto { dim }),
            tensor_content,
        }),
        metadata: Some(SummaryMetadata {
            plugin_data: Some(PluginData {
                plugin_name: plugin.to_owned(),
                content: plugin_content,
            }),
        }),
    }
}
