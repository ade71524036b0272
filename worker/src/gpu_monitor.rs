//! What NVIDIA's driver says of a GPU (NVML, which comes with it and is loaded when it is there).

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use nvml_wrapper::enum_wrappers::device::TemperatureSensor;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};
use quartet_shared::gpu::GpuUse;

/// How often the driver is asked.
const INTERVAL: Duration = Duration::from_secs(2);

/// What a GPU is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// The product, such as "NVIDIA H200".
    pub name: String,
    /// The driver's version.
    pub driver: Option<String>,
}

/// Watches a GPU until it is dropped.
#[derive(Clone, Debug)]
pub struct GpuMonitor {
    latest: Arc<Mutex<Option<GpuUse>>>,
}

impl GpuMonitor {
    /// Watches the GPU that this process has under this number; what it is, too. `None` where the driver
    /// cannot be asked, which is no reason not to compute.
    #[must_use]
    pub fn start(gpu: usize) -> Option<(Self, Gpu)> {
        let nvml = Nvml::init()
            .inspect_err(|error| tracing::debug!(%error, "NVML is not there"))
            .ok()?;
        let place = Place::of_process(gpu, &nvml)?;
        let device = place
            .find(&nvml)
            .inspect_err(|error| tracing::debug!(%error, "NVML does not know the GPU"));
        let gpu = Gpu {
            name: device.ok()?.name().unwrap_or_else(|_| "GPU".to_owned()),
            driver: nvml.sys_driver_version().ok(),
        };
        let latest = Arc::new(Mutex::new(None));
        let watched = Arc::downgrade(&latest);
        let watch = move || watch(&nvml, &place, &watched);
        let thread = std::thread::Builder::new().name("gpu-monitor".to_owned());
        thread.spawn(watch).ok()?;
        Some((Self { latest }, gpu))
    }

    /// What the driver has said last.
    #[must_use]
    pub fn latest(&self) -> Option<GpuUse> {
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes that are taken of the memory of the GPU that this process has under this number, by whomever.
#[must_use]
pub fn memory_used(gpu: usize) -> Option<u64> {
    let nvml = Nvml::init().ok()?;
    let device = Place::of_process(gpu, &nvml)?.find(&nvml).ok()?;
    Some(device.memory_info().ok()?.used)
}

/// Asks the driver until nobody wants to know any more.
fn watch(nvml: &Nvml, place: &Place, watched: &Weak<Mutex<Option<GpuUse>>>) {
    while let Some(latest) = watched.upgrade() {
        let found = place.find(nvml).and_then(|device| read(&device));
        *latest.lock().unwrap_or_else(PoisonError::into_inner) = found.ok();
        drop(latest);
        std::thread::sleep(INTERVAL);
    }
}

fn read(device: &Device<'_>) -> Result<GpuUse, NvmlError> {
    let memory = device.memory_info()?;
    Ok(GpuUse {
        // Some virtual GPUs do not say so.
        busy_percent: device
            .utilization_rates()
            .ok()
            .map(|rates| rates.gpu.min(100)),
        memory_used: memory.used.min(memory.total),
        memory_total: memory.total,
        temperature: device.temperature(TemperatureSensor::Gpu).ok(),
    })
}

/// Where NVML, which knows nothing of `CUDA_VISIBLE_DEVICES`, has a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Index(u32),
    Uuid(String),
}

impl Place {
    /// The place of this process' GPU.
    fn of_process(gpu: usize, nvml: &Nvml) -> Option<Self> {
        let of = |name| std::env::var(name).ok();
        let one_order = of("CUDA_DEVICE_ORDER").as_deref() == Some("PCI_BUS_ID")
            || nvml.device_count().ok()? == 1;
        Self::of(gpu, of("CUDA_VISIBLE_DEVICES").as_deref(), one_order)
    }

    /// The place of CUDA's GPU of this number. `None` if it is not visible, if CUDA may number them in
    /// another order than NVML, or if it is a slice of a GPU, of which the driver says little.
    fn of(gpu: usize, visible: Option<&str>, one_order: bool) -> Option<Self> {
        let at = |index| one_order.then_some(Self::Index(index));
        let Some(visible) = visible else {
            return at(u32::try_from(gpu).ok()?);
        };
        let entry = visible.split(',').nth(gpu)?.trim();
        match entry.parse() {
            Ok(index) => at(index),
            Err(_) if entry.starts_with("GPU-") => Some(Self::Uuid(entry.to_owned())),
            Err(_) => None,
        }
    }

    fn find<'a>(&self, nvml: &'a Nvml) -> Result<Device<'a>, NvmlError> {
        match self {
            Self::Index(index) => nvml.device_by_index(*index),
            Self::Uuid(uuid) => nvml.device_by_uuid(uuid.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_follows_what_is_visible() {
        let index = |index| Some(Place::Index(index));
        let of = |gpu, visible| Place::of(gpu, visible, true);
        assert_eq!(of(1, None), index(1));
        assert_eq!(of(0, Some("3, 5")), index(3));
        assert_eq!(of(1, Some("3, 5")), index(5));
        assert_eq!(of(2, Some("3, 5")), None);
        assert_eq!(Place::of(1, None, false), None, "it may be another one");
        assert_eq!(Place::of(1, Some("3, 5"), false), None);
        let uuid = "GPU-5f1f9a6c-6c1f-2d7e-9b1e-1d2f3a4b5c6d";
        let visible = format!("0,{uuid}");
        for one_order in [true, false] {
            let found = Place::of(1, Some(&visible), one_order);
            assert_eq!(found, Some(Place::Uuid(uuid.to_owned())));
        }
        assert_eq!(of(0, Some("MIG-5f1f9a6c")), None);
        assert_eq!(of(0, Some("")), None);
    }

    #[test]
    fn without_a_driver_nothing_is_watched() {
        if Nvml::init().is_err() {
            assert!(GpuMonitor::start(0).is_none());
        }
    }
}
