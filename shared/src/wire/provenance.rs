//! What a worker says of its program and its machine.

use quartet_proto::v1;

use crate::label::InvalidLabel;
use crate::provenance::Provenance;

impl From<Provenance> for v1::Provenance {
    /// The device is a field of the hello itself.
    fn from(provenance: Provenance) -> Self {
        Self {
            version: provenance.version,
            commit: provenance.commit,
            features: provenance.features,
            host: provenance.host,
            cpu: provenance.cpu,
            gpu: provenance.gpu,
            driver: provenance.driver,
            libtorch: provenance.libtorch,
        }
    }
}

impl TryFrom<v1::Provenance> for Provenance {
    type Error = InvalidLabel;

    fn try_from(message: v1::Provenance) -> Result<Self, InvalidLabel> {
        let provenance = Self {
            device: None,
            version: message.version,
            commit: message.commit,
            features: message.features,
            host: message.host,
            cpu: message.cpu,
            gpu: message.gpu,
            driver: message.driver,
            libtorch: message.libtorch,
        };
        provenance.check()?;
        Ok(provenance)
    }
}
