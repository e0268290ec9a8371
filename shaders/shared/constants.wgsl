// Numbers that Rust, WGSL and CUDA share, typed here and nowhere else. Every shader begins with this file;
// build/ writes it as Rust for src/constants.rs. `compile_kernels` writes it for CUDA, as constants.cuh and
// constants.rs, and a test of native-cuda compares them. A line is a comment or one constant: a literal that ends
// in u or f, and a comment that says what it is.

// The step table
const TABLE_HEADER = 4u;            // words in front of its rows
const COUNT_ROWS = 0u;              // word of the header that counts the step's rows
const COUNT_SPANS = 1u;             // word of the header that counts its spans
const COUNT_OUTPUTS = 2u;           // word of the header that counts the rows whose logits are wanted
const COUNT_CAPACITY = 3u;          // word of the header that has the rows of the program
const CHUNK_ROWS = 32u;             // most rows of a chunk
const TOKEN_OF_SLOT = 0xffffffffu;  // a token id that means the token last sampled in the row's slot

// Keys and values
const PAGE_ROWS = 64u;              // rows of a page, and the positions it covers
const WIDEST_HEAD = 256u;           // most columns of a head of keys or values in attention
const NO_WINDOW = 0xffffffffu;      // a window that reaches back to the start

// Ops
const NONE = 0xffffffffu;           // the offset of a vector that an op goes without
const FUNCTION_IDENTITY = 0u;       // x
const FUNCTION_SILU = 1u;           // x / (1 + exp(-x))
const FUNCTION_SQUARED_RELU = 2u;   // max(x, 0)^2
const FUNCTION_SIGMOID = 3u;        // 1 / (1 + exp(-x))
const NORM_RMS = 0u;                // x / sqrt(mean(x^2) + eps)
const NORM_LAYER = 1u;              // the same of x - mean(x)
const NORM_L2 = 2u;                 // x / sqrt(sum(x^2) + eps)
const MOST_EXPERTS = 1024u;         // most experts among which a row chooses
const FURTHEST = 3.4e38f;           // no score of an expert and no logit is further from 0

// The record in which a slot keeps how it chooses tokens: see src/state/sampler.rs
const SAMPLER_WORDS = 32u;          // words of a record
const TEMPERATURE = 0u;             // f32; 0 is greedy
const TOP_K = 1u;                   // 0: all
const TOP_P = 2u;                   // f32
const MIN_P = 3u;                   // f32
const REPETITION = 4u;              // f32
const FREQUENCY = 5u;               // f32
const PRESENCE = 6u;                // f32
const ADJUSTS = 7u;                 // bits: PENALISED, BIASED
const SEED = 8u;                    // two words
const DRAWN = 10u;                  // tokens chosen
const LIMIT = 11u;                  // of tokens; 0: none
const FINISHED = 12u;               // 0, 1 or UNUSABLE
const LAST_TOKEN = 13u;             // the token chosen last
const END_COUNT = 14u;              // how many tokens end the text
const MASKED = 15u;                 // 1: only tokens of the slot's mask can be chosen
const ENDS = 16u;                   // the first of them
const MOST_ENDS = 16u;              // and how many there can be
const PENALISED = 1u;               // in ADJUSTS: a penalty is not neutral
const BIASED = 2u;                  // in ADJUSTS: the slot's biases are added to its logits
const UNUSABLE = 2u;                // in FINISHED: no token could be chosen
const NO_TOKEN = 0xffffffffu;       // in place of a token that could not be chosen
const SEEN = 0x80000000u;           // in a slot's count of a token: it was read before the text began
