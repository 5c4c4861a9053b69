//! GPUs, from NVIDIA's management library. It comes with the driver and is loaded when it is needed.

use std::ffi::OsStr;
use std::sync::OnceLock;

use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};
use serde::Serialize;

use super::gib;

/// The library's name where no development files are installed, as in containers.
const LIBRARY: &str = "libnvidia-ml.so.1";

/// One GPU.
#[derive(Debug, Serialize)]
pub struct Gpu {
    /// As the driver counts them, from 0.
    pub device_id: u32,
    pub name: String,
    pub utilization_percent: Utilization,
    pub memory_gb: Memory,
}

/// Share of the last moments, in percent; `None` where the driver has no figure, as for a partitioned GPU.
#[derive(Debug, Serialize)]
pub struct Utilization {
    /// In which it computed.
    pub gpu: Option<u32>,
    /// In which its memory was read or written.
    pub memory: Option<u32>,
}

/// Memory in GiB.
#[derive(Debug, Serialize)]
pub struct Memory {
    pub total: f64,
    pub used: f64,
    pub free: f64,
}

/// Every GPU that the driver shows to this process; none without a driver. Blocks.
pub fn gpus() -> Vec<Gpu> {
    let Some(nvml) = library() else {
        return Vec::new();
    };
    let count = nvml.device_count().unwrap_or_default();
    let found = (0..count).map(|index| {
        let device = nvml.device_by_index(index)?;
        describe(index, &device)
    });
    found
        .filter_map(|gpu| {
            gpu.inspect_err(|error| tracing::warn!(%error, "a GPU could not be queried"))
                .ok()
        })
        .collect()
}

fn library() -> Option<&'static Nvml> {
    static LOADED: OnceLock<Option<Nvml>> = OnceLock::new();
    let load = || {
        let loaded = Nvml::builder().lib_path(OsStr::new(LIBRARY)).init();
        loaded
            .inspect_err(|error| tracing::debug!(%error, "no figures of GPUs"))
            .ok()
    };
    LOADED.get_or_init(load).as_ref()
}

fn describe(index: u32, device: &Device<'_>) -> Result<Gpu, NvmlError> {
    let memory = device.memory_info()?;
    let busy = device.utilization_rates().ok();
    Ok(Gpu {
        device_id: index,
        name: device.name()?,
        utilization_percent: Utilization {
            gpu: busy.as_ref().map(|busy| busy.gpu),
            memory: busy.as_ref().map(|busy| busy.memory),
        },
        memory_gb: Memory {
            total: gib(memory.total),
            used: gib(memory.used),
            free: gib(memory.free),
        },
    })
}
