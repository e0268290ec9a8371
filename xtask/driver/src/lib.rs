//! A Vulkan driver that is Mesa's lavapipe and says that it is SwiftShader.
//!
//! Without a graphics card Chromium takes no adapter but SwiftShader's, which it knows by the numbers of its vendor and
//! its device, and which has no `shader-f16`. This library is put in SwiftShader's place in a copy of Chromium for the
//! tests: it hands every call on to the driver that the variable `SELVEDGE_DRIVER` names, and changes those two numbers.
//!
//! Source: Vulkan 1.3 specification, `VkPhysicalDeviceProperties`; Vulkan-Loader, "Driver interface", version 5.

use std::ffi::{CStr, c_char, c_void};
use std::sync::OnceLock;

use libloading::Library;

/// Names the library of the driver that does the work.
const DRIVER: &str = "SELVEDGE_DRIVER";

/// Google's number in the PCI registry, and the one that SwiftShader gives its device.
const VENDOR: u32 = 0x1AE0;
const DEVICE: u32 = 0xC0DE;

/// `VK_ERROR_INCOMPATIBLE_DRIVER`.
const INCOMPATIBLE: i32 = -9;

/// Any function of Vulkan's.
type Function = Option<unsafe extern "system" fn()>;
type Find = unsafe extern "system" fn(*mut c_void, *const c_char) -> Function;
type Negotiate = unsafe extern "system" fn(*mut u32) -> i32;

/// First fields of `VkPhysicalDeviceProperties`.
#[repr(C)]
struct Properties {
    api_version: u32,
    driver_version: u32,
    vendor: u32,
    device: u32,
}

/// First fields of `VkPhysicalDeviceProperties2`.
#[repr(C)]
struct Properties2 {
    kind: u32,
    next: *mut c_void,
    properties: Properties,
}

type GetProperties = unsafe extern "system" fn(*mut c_void, *mut Properties);
type GetProperties2 = unsafe extern "system" fn(*mut c_void, *mut Properties2);

static GET_PROPERTIES: OnceLock<GetProperties> = OnceLock::new();
static GET_PROPERTIES_2: OnceLock<GetProperties2> = OnceLock::new();

/// The driver that does the work, and its three ways in.
struct Driver {
    find: Find,
    find_physical: Find,
    negotiate: Negotiate,
    _library: Library,
}

/// Loads it once; `None`, and a line that says why, if it cannot be.
fn driver() -> Option<&'static Driver> {
    static LOADED: OnceLock<Option<Driver>> = OnceLock::new();
    let load = || {
        let path = std::env::var_os(DRIVER).ok_or_else(|| format!("{DRIVER} names no library"))?;
        // SAFETY: loading a Vulkan driver runs its initialisers, which is what the loader itself would do.
        let library = unsafe { Library::new(&path) }.map_err(|error| error.to_string())?;
        // SAFETY: the loader's interface to drivers gives these three names these types.
        let (find, find_physical, negotiate) = unsafe {
            let find = library.get::<Find>(c"vk_icdGetInstanceProcAddr").map_err(|error| error.to_string())?;
            let physical =
                library.get::<Find>(c"vk_icdGetPhysicalDeviceProcAddr").map_err(|error| error.to_string())?;
            let negotiate = library.get::<Negotiate>(c"vk_icdNegotiateLoaderICDInterfaceVersion");
            (*find, *physical, *negotiate.map_err(|error| error.to_string())?)
        };
        // Whoever comes by vkGetInstanceProcAddr negotiates nothing, and the driver waits for that.
        let mut version = 5;
        // SAFETY: the version can be read and written.
        unsafe { negotiate(&raw mut version) };
        Ok::<_, String>(Driver { find, find_physical, negotiate, _library: library })
    };
    LOADED
        .get_or_init(|| load().inspect_err(|why| eprintln!("the driver behind SwiftShader's name: {why}")).ok())
        .as_ref()
}

/// Writes SwiftShader's numbers over a driver's own.
fn rename(properties: &mut Properties) {
    (properties.vendor, properties.device) = (VENDOR, DEVICE);
}

unsafe extern "system" fn get_properties(device: *mut c_void, to: *mut Properties) {
    let Some(get) = GET_PROPERTIES.get() else { return };
    // SAFETY: the caller's device and its memory, handed on as they came; the driver has filled in what is renamed.
    unsafe {
        get(device, to);
        rename(&mut *to);
    }
}

unsafe extern "system" fn get_properties_2(device: *mut c_void, to: *mut Properties2) {
    let Some(get) = GET_PROPERTIES_2.get() else { return };
    // SAFETY: as in `get_properties`.
    unsafe {
        get(device, to);
        rename(&mut (*to).properties);
    }
}

/// Puts the functions above before the driver's own.
///
/// # Safety
/// `name` is a string that ends, and `found` the driver's function of that name.
unsafe fn renamed(found: Function, name: *const c_char) -> Function {
    let own = found?;
    // SAFETY: by this function's contract; Vulkan's names say what type a function has.
    unsafe {
        match CStr::from_ptr(name).to_bytes() {
            b"vkGetPhysicalDeviceProperties" => {
                GET_PROPERTIES.get_or_init(|| std::mem::transmute::<unsafe extern "system" fn(), GetProperties>(own));
                Some(std::mem::transmute::<GetProperties, unsafe extern "system" fn()>(get_properties))
            }
            b"vkGetPhysicalDeviceProperties2" | b"vkGetPhysicalDeviceProperties2KHR" => {
                GET_PROPERTIES_2
                    .get_or_init(|| std::mem::transmute::<unsafe extern "system" fn(), GetProperties2>(own));
                Some(std::mem::transmute::<GetProperties2, unsafe extern "system" fn()>(get_properties_2))
            }
            _ => Some(own),
        }
    }
}

/// The loader's way in: a function of an instance, or of none.
///
/// # Safety
/// The loader gives an instance of this driver, or null, and the name of a function.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn vk_icdGetInstanceProcAddr(instance: *mut c_void, name: *const c_char) -> Function {
    let driver = driver()?;
    // SAFETY: handed on as it came.
    unsafe { renamed((driver.find)(instance, name), name) }
}

/// The way in of programs that do without the loader, as Chromium's WebGPU does.
///
/// # Safety
/// As of [`vk_icdGetInstanceProcAddr`].
#[unsafe(no_mangle)]
pub unsafe extern "system" fn vkGetInstanceProcAddr(instance: *mut c_void, name: *const c_char) -> Function {
    // SAFETY: handed on as it came.
    unsafe {
        if CStr::from_ptr(name) == c"vkGetInstanceProcAddr" {
            return Some(std::mem::transmute::<Find, unsafe extern "system" fn()>(vkGetInstanceProcAddr));
        }
        vk_icdGetInstanceProcAddr(instance, name)
    }
}

/// The loader's way in: a function of a physical device.
///
/// # Safety
/// As of [`vk_icdGetInstanceProcAddr`].
#[unsafe(no_mangle)]
pub unsafe extern "system" fn vk_icdGetPhysicalDeviceProcAddr(instance: *mut c_void, name: *const c_char) -> Function {
    let driver = driver()?;
    // SAFETY: handed on as it came.
    unsafe { renamed((driver.find_physical)(instance, name), name) }
}

/// The loader's way in: which version of its interface both know.
///
/// # Safety
/// `version` can be read and written.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn vk_icdNegotiateLoaderICDInterfaceVersion(version: *mut u32) -> i32 {
    let Some(driver) = driver() else { return INCOMPATIBLE };
    // SAFETY: handed on as it came.
    unsafe { (driver.negotiate)(version) }
}
