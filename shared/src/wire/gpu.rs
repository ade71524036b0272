//! How GPUs do.

use quartet_proto::v1;

use super::WireError;
use crate::gpu::GpuUse;

/// More than any chip survives.
const HOTTEST: u32 = 1000;

impl From<GpuUse> for v1::GpuUse {
    fn from(gpu: GpuUse) -> Self {
        Self {
            busy_percent: gpu.busy_percent,
            memory_used: gpu.memory_used,
            memory_total: gpu.memory_total,
            temperature: gpu.temperature,
        }
    }
}

impl TryFrom<v1::GpuUse> for GpuUse {
    type Error = WireError;

    fn try_from(gpu: v1::GpuUse) -> Result<Self, WireError> {
        let out_of = |field, range, value: f64| {
            Err(WireError::Range {
                field,
                range,
                value,
            })
        };
        match gpu {
            v1::GpuUse {
                busy_percent: Some(percent),
                ..
            } if percent > 100 => out_of("busy_percent", "at most 100", percent.into()),
            v1::GpuUse {
                memory_used,
                memory_total,
                ..
            } if memory_used > memory_total => {
                let range = "at most memory_total";
                out_of("memory_used", range, memory_used as f64)
            }
            v1::GpuUse {
                temperature: Some(temperature),
                ..
            } if temperature > HOTTEST => out_of("temperature", "at most 1000", temperature.into()),
            gpu => Ok(Self {
                busy_percent: gpu.busy_percent,
                memory_used: gpu.memory_used,
                memory_total: gpu.memory_total,
                temperature: gpu.temperature,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_gpu_does_is_refused() {
        let good = GpuUse {
            busy_percent: Some(100),
            memory_used: 80,
            memory_total: 80,
            temperature: Some(63),
        };
        let message = v1::GpuUse::from(good);
        assert_eq!(GpuUse::try_from(message), Ok(good));
        for bad in [
            v1::GpuUse {
                busy_percent: Some(101),
                ..message
            },
            v1::GpuUse {
                memory_total: 79,
                ..message
            },
            v1::GpuUse {
                temperature: Some(u32::MAX),
                ..message
            },
        ] {
            let error = GpuUse::try_from(bad).unwrap_err();
            assert!(matches!(error, WireError::Range { .. }), "{error}");
        }
    }
}
