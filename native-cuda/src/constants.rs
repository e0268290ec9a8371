//! The numbers that the kernels share with their hosts: `shaders/shared/constants.wgsl`,
//! written by `cargo run -p selvedge-cuda --bin compile_kernels`.

/// words in front of its rows
pub const TABLE_HEADER: u32 = 4;

/// word of the header that counts the step's rows
pub const COUNT_ROWS: u32 = 0;

/// word of the header that counts its spans
pub const COUNT_SPANS: u32 = 1;

/// word of the header that counts the rows whose logits are wanted
pub const COUNT_OUTPUTS: u32 = 2;

/// word of the header that has the rows of the program
pub const COUNT_CAPACITY: u32 = 3;

/// most rows of a chunk
pub const CHUNK_ROWS: u32 = 32;

/// a token id that means the token last sampled in the row's slot
pub const TOKEN_OF_SLOT: u32 = 0xffffffff;

/// rows of a page, and the positions it covers
pub const PAGE_ROWS: u32 = 64;

/// most columns of a head of keys or values in attention
pub const WIDEST_HEAD: u32 = 256;

/// a window that reaches back to the start
pub const NO_WINDOW: u32 = 0xffffffff;

/// the offset of a vector that an op goes without
pub const NONE: u32 = 0xffffffff;

/// x
pub const FUNCTION_IDENTITY: u32 = 0;

/// x / (1 + exp(-x))
pub const FUNCTION_SILU: u32 = 1;

/// max(x, 0)^2
pub const FUNCTION_SQUARED_RELU: u32 = 2;

/// 1 / (1 + exp(-x))
pub const FUNCTION_SIGMOID: u32 = 3;

/// x / sqrt(mean(x^2) + eps)
pub const NORM_RMS: u32 = 0;

/// the same of x - mean(x)
pub const NORM_LAYER: u32 = 1;

/// x / sqrt(sum(x^2) + eps)
pub const NORM_L2: u32 = 2;

/// most experts among which a row chooses
pub const MOST_EXPERTS: u32 = 1024;

/// no score of an expert and no logit is further from 0
pub const FURTHEST: f32 = 3.4e38;

/// words of a record
pub const SAMPLER_WORDS: u32 = 32;

/// f32; 0 is greedy
pub const TEMPERATURE: u32 = 0;

/// 0: all
pub const TOP_K: u32 = 1;

/// f32
pub const TOP_P: u32 = 2;

/// f32
pub const MIN_P: u32 = 3;

/// f32
pub const REPETITION: u32 = 4;

/// f32
pub const FREQUENCY: u32 = 5;

/// f32
pub const PRESENCE: u32 = 6;

/// bits: PENALISED, BIASED
pub const ADJUSTS: u32 = 7;

/// two words
pub const SEED: u32 = 8;

/// tokens chosen
pub const DRAWN: u32 = 10;

/// of tokens; 0: none
pub const LIMIT: u32 = 11;

/// 0, 1 or UNUSABLE
pub const FINISHED: u32 = 12;

/// the token chosen last
pub const LAST_TOKEN: u32 = 13;

/// how many tokens end the text
pub const END_COUNT: u32 = 14;

/// 1: only tokens of the slot's mask can be chosen
pub const MASKED: u32 = 15;

/// the first of them
pub const ENDS: u32 = 16;

/// and how many there can be
pub const MOST_ENDS: u32 = 16;

/// in ADJUSTS: a penalty is not neutral
pub const PENALISED: u32 = 1;

/// in ADJUSTS: the slot's biases are added to its logits
pub const BIASED: u32 = 2;

/// in FINISHED: no token could be chosen
pub const UNUSABLE: u32 = 2;

/// in place of a token that could not be chosen
pub const NO_TOKEN: u32 = 0xffffffff;

/// in a slot's count of a token: it was read before the text began
pub const SEEN: u32 = 0x80000000;
