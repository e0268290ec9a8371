//! Loading: from a checkpoint and a backend to an engine.

use std::collections::BTreeSet;
use std::sync::Arc;

use web_time::Instant;

use super::checkpoints::Checkpoints;
use super::snapshot::{Identity, storage_name};
use super::stop_token_ids;
use super::{
    Drafter, Engine, EngineError, MOST_DRAFTS, PREFILL_ROWS, Programs, Purpose, Slots, StepsInFlight,
    generation_config, memory_estimate,
};
use crate::arch::{self, ArchOptions, Config, HymbaWindow, Model};
use crate::backend::{
    Backend, BackendError, DEFAULT_KV_FORMAT, Outputs, Span, Step, StepTable, Tokens, no_speculation,
};
use crate::checkpoint::{self, Checkpoint, CheckpointError, LoadProgress, Storage, WeightChoice};
use crate::formats::Rounding;
use crate::graph::{WeightDesc, WeightSink};
use crate::hash::Hash;
use crate::state::{Fingerprint, KvFormat, StateLayout};
use crate::text::Tokenizer;

/// Default context in tokens, if the model can be that long.
const DEFAULT_CONTEXT: usize = 8192;

/// Options of a load.
pub struct EngineOptions<'a> {
    /// Purpose of the load: generate or score.
    pub purpose: Purpose,
    /// Storage format of the matrices; `Auto`: as the checkpoint has them if that fits, else in 8 bits, else in 4.
    pub weights: WeightChoice,
    /// Choice of the scales where matrices are quantised.
    pub rounding: Rounding,
    /// Storage format of keys and values.
    pub kv_format: KvFormat,
    /// Context: most tokens of one sequence; `None`: the model's own, at most 8192.
    pub context: Option<usize>,
    /// Slots: sequences held at the same time.
    pub slots: usize,
    /// Most bytes of memory to take; `None`: no more than the device gives.
    pub budget: Option<u64>,
    /// Bytes of the budget that other models have left: more is refused, and the format of the matrices is chosen as if
    /// all of it were there, so that a model is the same whatever is beside it. `None`: all of it.
    pub left: Option<u64>,
    /// Keys that Hymba's windowed layers see while decoding.
    pub hymba_window: HymbaWindow,
    /// Most tokens that the model's heads for later tokens draft ahead of a step that verifies them, at most
    /// [`MOST_DRAFTS`]. 0: those heads are not loaded. Texts are the same either way.
    pub speculate: usize,
    /// Names of graph values that [`Engine::value`] can read.
    pub keep: Vec<String>,
    /// Called after every block of weights.
    pub progress: &'a mut dyn FnMut(LoadProgress),
}

impl<'a> EngineOptions<'a> {
    /// One sequence, everything else as the model has it; `progress` is called after every block of weights.
    pub fn new(progress: &'a mut dyn FnMut(LoadProgress)) -> Self {
        Self {
            purpose: Purpose::Generate,
            weights: WeightChoice::Auto,
            rounding: Rounding::default(),
            kv_format: DEFAULT_KV_FORMAT,
            context: None,
            slots: 1,
            budget: None,
            left: None,
            hymba_window: HymbaWindow::default(),
            speculate: 0,
            keep: vec![],
            progress,
        }
    }

    /// Refuses more drafts than a step verifies, and any on a backend that verifies none.
    pub(crate) fn check_speculation(&self, backend: &dyn Backend) -> Result<(), EngineError> {
        match self.speculate {
            0 => Ok(()),
            asked if asked > MOST_DRAFTS => Err(EngineError::Drafts { asked }),
            _ if backend.speculates() => Ok(()),
            _ => Err(no_speculation(backend.info().kind).into()),
        }
    }

    /// What of them the graph depends on.
    pub(crate) fn arch(&self) -> ArchOptions {
        ArchOptions { hymba_window: self.hymba_window, draft: self.speculate > 0 }
    }
}

impl Engine {
    /// Builds the model, moves its weights to the backend, allocates the slots and reads the prefix tokens.
    ///
    /// Errors: a checkpoint that cannot be read, a model that is not supported, memory that does not suffice, a device
    /// that fails.
    pub async fn load(
        checkpoint: &Checkpoint,
        mut backend: Box<dyn Backend>,
        mut options: EngineOptions<'_>,
    ) -> Result<Self, EngineError> {
        let config = Config::parse(checkpoint.config())?;
        options.check_speculation(&*backend)?;
        let arch = options.arch();
        let model = arch::build(&config, Some(&checkpoint.shapes()), &arch)?;
        options.purpose.check(&model.head)?;
        let context = context(&model, options.context)?;
        // What does not fit shows before anything is allocated.
        let layout =
            StateLayout::new(&model.graph, options.slots, context + model.prefix_tokens.len(), options.kv_format);
        if options.weights == WeightChoice::Auto && backend.takes_quantised() {
            let memory = options.budget.or(backend.info().memory);
            options.weights = memory_estimate::fitting(checkpoint, &model, &layout, memory)?;
        }
        let (choice, rounding) = (options.weights, options.rounding);
        let storage = Storage { choice, rounding, widens_fp8: !backend.takes_quantised() };
        let descs = checkpoint::stored(checkpoint, &model.graph, storage)?;
        memory_estimate::check(&model, &descs, &layout, backend.info(), options.left.or(options.budget))?;
        let mut notices = checkpoint::notices(checkpoint, &model.graph);
        // Small files first: what is wrong with them shows before gigabytes are read.
        let tokenizer_file = checkpoint.file("tokenizer.json").await?;
        let tokenizer_hash = tokenizer_file.as_deref().map(Hash::of);
        let tokenizer = tokenizer(checkpoint, tokenizer_file).await?;
        let (stop_token_ids, more) = read_stop_token_ids(checkpoint, &model).await?;

        let sink: &mut dyn WeightSink<Error = BackendError> = &mut *backend;
        let report = checkpoint::load(checkpoint, &model.graph, storage, sink, options.progress).await?;
        let fingerprint = Fingerprint {
            architecture: model.model_type.clone(),
            // Whether it drafts is told by the hash of the weights.
            config: Hash::of(
                format!("ArchOptions {{ hymba_window: {:?} }}\n{}", arch.hymba_window, checkpoint.config()).as_bytes(),
            ),
            weights: report.weights,
            tokenizer: tokenizer_hash,
        };
        let bytes = descs.iter().map(WeightDesc::bytes).collect();
        let weights = storage_name(options.weights, options.rounding);
        let mut engine = Self::assemble(backend, model, bytes, tokenizer, stop_token_ids, options).await?;
        engine.identity = Identity { fingerprint, weights };
        notices.extend(more);
        engine.notices.extend(notices);
        // Some devices tell late that an allocation failed.
        engine.backend.settle().await?;
        Ok(engine)
    }

    /// Allocates the slots of a model whose weights are on the backend, and reads the prefix tokens.
    pub(crate) async fn assemble(
        mut backend: Box<dyn Backend>,
        model: Model,
        weight_bytes: Vec<u64>,
        tokenizer: Option<Arc<Tokenizer>>,
        stop_token_ids: Vec<u32>,
        options: EngineOptions<'_>,
    ) -> Result<Self, EngineError> {
        let context = context(&model, options.context)?;
        let keep =
            options.keep.iter().map(|name| model.graph.find(name).ok_or_else(|| EngineError::NoValue(name.clone())));
        let mut keep = keep.collect::<Result<BTreeSet<_>, _>>()?;
        keep.extend(model.draft.as_ref().map(|draft| draft.source));
        let drafter = model.draft.as_ref().map(|draft| Drafter::new(options.speculate, draft.last));
        let layout =
            StateLayout::new(&model.graph, options.slots, context + model.prefix_tokens.len(), options.kv_format);
        backend.allocate(&layout)?;
        let (programs, slots) = (Programs::new(keep), Slots::new(&layout));
        let (steps_in_flight, begun, weights, notices) =
            (StepsInFlight::new(), Instant::now(), options.weights, vec![]);
        let identity = Identity::default();
        let mut engine = Self {
            backend,
            model,
            layout,
            programs,
            slots,
            checkpoints: Checkpoints::default(),
            drafter,
            tokenizer,
            stop_token_ids,
            weight_bytes,
            weights,
            identity,
            steps_in_flight,
            notices,
            begun,
        };
        engine.backend.choose_forms(&engine.model.graph).await?;
        engine.notices.extend(engine.backend.info().notice.clone());
        engine.read_prefix_tokens()?;
        Ok(engine)
    }

    /// Reads the prefix tokens into the initial state, of which every slot begins as a copy.
    fn read_prefix_tokens(&mut self) -> Result<(), EngineError> {
        let ids: Vec<u32> = self.model.prefix_tokens.clone().collect();
        for (i, ids) in ids.chunks(PREFILL_ROWS).enumerate() {
            let tokens = Tokens::Given(ids.to_vec());
            let span =
                Span { slot: self.layout.initial_slot(), first: i * PREFILL_ROWS, tokens, outputs: Outputs::None };
            let table = StepTable::new(&Step { spans: vec![span] }, &self.layout)?;
            let program = self.programs.get(&mut *self.backend, &self.model.graph, &table, None)?;
            self.backend.step(program, &table)?;
        }
        Ok(())
    }
}

/// The context asked for, if the model can have it.
fn context(model: &Model, asked: Option<usize>) -> Result<usize, EngineError> {
    match asked {
        Some(asked) if asked == 0 || asked > model.context => Err(EngineError::Context { asked, limit: model.context }),
        Some(asked) => Ok(asked),
        None => Ok(model.context.min(DEFAULT_CONTEXT)),
    }
}

async fn tokenizer(checkpoint: &Checkpoint, file: Option<Vec<u8>>) -> Result<Option<Arc<Tokenizer>>, EngineError> {
    let Some(tokenizer) = file else { return Ok(None) };
    let config = checkpoint.file("tokenizer_config.json").await?;
    Ok(Some(Arc::new(Tokenizer::from_bytes(&tokenizer, config.as_deref())?)))
}

/// The end tokens that the model's config and its `generation_config.json` name, and what of them is not followed.
async fn read_stop_token_ids(checkpoint: &Checkpoint, model: &Model) -> Result<(Vec<u32>, Vec<String>), EngineError> {
    let bytes = checkpoint.file(generation_config::FILE).await?;
    let fields = bytes.as_deref().map(generation_config::fields).transpose().map_err(|e| CheckpointError::Text {
        file: checkpoint.describe(generation_config::FILE),
        what: format!("cannot be used: {e}"),
    })?;
    Ok(stop_token_ids::read(&model.eos, fields.as_ref(), model.vocabulary))
}
