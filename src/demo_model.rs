//! The small trained model that the binary carries.

use crate::checkpoint::Memory;

/// Its files.
pub fn files() -> Memory {
    Memory::new()
        .with("config.json", &include_bytes!("../assets/demo/config.json")[..])
        .with("generation_config.json", &include_bytes!("../assets/demo/generation_config.json")[..])
        .with("model.safetensors", &include_bytes!("../assets/demo/model.safetensors")[..])
        .with("tokenizer.json", &include_bytes!("../assets/demo/tokenizer.json")[..])
        .with("tokenizer_config.json", &include_bytes!("../assets/demo/tokenizer_config.json")[..])
}
