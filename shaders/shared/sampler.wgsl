// The record in which a slot keeps how it chooses tokens: 32 words, see src/state/sampler.rs.
const SAMPLER_WORDS = 32u;
const TEMPERATURE = 0u;
const TOP_K = 1u;
const TOP_P = 2u;
const MIN_P = 3u;
const REPETITION = 4u;
const FREQUENCY = 5u;
const PRESENCE = 6u;
const PENALISES = 7u;
const SEED = 8u;            // two words
const DRAWN = 10u;
const LIMIT = 11u;
const FINISHED = 12u;
const LAST_TOKEN = 13u;
const END_COUNT = 14u;
const ENDS = 16u;
