//! What the instances of a component take besides memories and tables, found out before it is compiled.
//!
//! The engine keeps a context for each core instance: its globals, what it imports, its references to
//! functions, its passive segments. It is made at once, without using fuel, and no limiter hears of it.
//! A module can ask for much of that in few bytes, and a component can instantiate one module many
//! times, also in components that are themselves instantiated many times. So the component is walked
//! here as the engine would instantiate it, with a bound on the steps, and what it comes to counts as
//! memory (see `limiter`).
//!
//! The walk also refuses what would only multiply in the compiler, which lays components out flat.

mod module;

use std::collections::HashMap;

use wasmparser::{
    ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind, Instance,
    Parser, Payload,
};

use module::Module;

use super::compile::{CompileError, CompileSettings, invalid};
use crate::limits::{exact_bytes, grouped};

/// The definitions that the components of a component may come to, counted once for each time that
/// they are instantiated.
const MAX_STEPS: u64 = 1_000_000;
/// How much there may be to make of all instances, in some 50 ns each, as no guest's clock is looked at meanwhile: a
/// global or a type of resource is one, and so are 64 bytes of an expression that is computed; something imported is
/// four, a function that the engine makes for a component twelve, a segment of data that is not copied at the start
/// one, of elements eight, and each of its elements, or a place in a table or a global that begins with a reference
/// to a function, six. The engine may make those later, but then all in one instruction. A core instance is 15, and a
/// memory, which is 10 to 30 µs where it is not one of the pool's, 400.
const MAX_PARTS: u64 = 160_000;
const PARTS_OF_INSTANCE: u64 = 15;
const PARTS_OF_MEMORY: u64 = 400;
const PARTS_OF_IMPORT: u64 = 4;
const PARTS_OF_LOWERED: u64 = 12;
const PARTS_OF_SEGMENT: u64 = 8;
const PARTS_OF_REFERENCE: u64 = 6;
/// How many bytes of a name count as one more definition.
const NAME: usize = 64;
/// How many types all modules may have. Each takes up to 1 KiB for as long as the skill is loaded.
const MAX_TYPES: u64 = 20_000;
/// How many bytes what memories and tables begin with may come to in all modules, besides two for each that the
/// component has: two bytes of data may stand far apart, and what is between them is in the compiled code.
const MAX_IMAGES: u64 = 16 << 20;
/// How deep instances may be made within the making of others.
const MAX_DEPTH: usize = 100;

/// What an instance takes that has nothing in it.
const INSTANCE: u64 = 1_024;
/// What a global takes, or an entry of a passive segment.
const VALUE: u64 = 16;
/// What something imported takes, or a reference to a function.
const REFERENCE: u64 = 32;
/// What a function takes that the engine makes for a component.
const LOWERED: u64 = 64;
/// What an instance of a component within a component takes.
const COMPONENT: u64 = 128;
/// What a type of resource takes.
const RESOURCE: u64 = 64;
/// What a memory or table takes besides what it holds.
const STORE: u64 = 256;
/// What is known of a data segment.
const SEGMENT: u64 = 16;

/// The bytes of the contexts of all instances of a component that `check` has looked at.
pub(super) fn context_bytes(
    component: &[u8],
    settings: &CompileSettings,
) -> Result<u64, CompileError> {
    let read = Read::new(component, settings)?;
    let mut walk = Walk {
        read: &read,
        frames: Vec::new(),
        instances: Vec::new(),
        steps: 0,
        parts: 0,
        bytes: 0,
    };
    walk.instantiate(0, None, HashMap::new(), 0)?;
    if walk.bytes > settings.max_context_bytes {
        return Err(CompileError::TooLarge {
            what: "instances whose contexts are",
            found: exact_bytes(walk.bytes),
            allowed: exact_bytes(settings.max_context_bytes),
        });
    }
    Ok(walk.bytes)
}

/// What can be passed between components, of which the walk has to know what it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Module,
    Component,
    Instance,
}

/// A place in the numbering of its kind.
type Place = (Kind, u32);

/// A definition of a component, as far as it matters here.
enum Item<'a> {
    /// A core module, which takes so many bytes for each of its instances, and has so many parts.
    Module(u64, u64),
    Component(usize),
    Import(&'a str, Kind),
    Instantiate(u32),
    InstantiateComponent(u32, Vec<(&'a str, Place)>),
    Group(Vec<(&'a str, Place)>),
    AliasExport(Kind, u32, &'a str),
    AliasOuter(Kind, u32, u32),
    Export(&'a str, Place),
}

#[derive(Default)]
struct Definition<'a> {
    items: Vec<Item<'a>>,
    /// All that it defines, also what does not matter here.
    definitions: u64,
    /// Functions that the engine makes for it.
    functions: u64,
    /// Types of resources.
    resources: u64,
}

/// What is instantiated within a component; the first is the component itself.
struct Read<'a> {
    definitions: Vec<Definition<'a>>,
}

impl<'a> Read<'a> {
    fn new(component: &'a [u8], settings: &CompileSettings) -> Result<Self, CompileError> {
        // Before anything is kept of them: each takes more room here than in the file.
        let mut left = MAX_STEPS;
        let mut types = MAX_TYPES;
        let most_images = MAX_IMAGES.saturating_add((component.len() as u64).saturating_mul(2));
        let mut images = most_images;
        let mut definitions = vec![Definition::default()];
        // Where we are: components within components, and perhaps a module within the last.
        let mut open = vec![0_usize];
        let mut module: Option<Module> = None;
        for payload in Parser::new(0).parse_all(component) {
            let payload = payload.map_err(|error| invalid(&error))?;
            if let Some(inside) = &mut module {
                if let Payload::End(_) = payload {
                    if !spend(&mut images, inside.images()) {
                        return Err(CompileError::TooLarge {
                            what: "data and tables that, with what is between their parts, are, over all modules,",
                            found: format!("more than {}", exact_bytes(most_images)),
                            allowed: exact_bytes(most_images),
                        });
                    }
                    if inside.at_start() > settings.max_function_bytes {
                        return Err(CompileError::TooLarge {
                            what: "a module whose initial values are",
                            found: exact_bytes(inside.at_start()),
                            allowed: exact_bytes(settings.max_function_bytes),
                        });
                    }
                    if !spend(&mut types, inside.types) {
                        return Err(CompileError::TooLarge {
                            what: "a number of types, over all modules,",
                            found: format!("more than {}", grouped(MAX_TYPES)),
                            allowed: grouped(MAX_TYPES),
                        });
                    }
                    let item = Item::Module(inside.context_bytes(), inside.parts());
                    module = None;
                    if let Some(definition) = open.last().and_then(|at| definitions.get_mut(*at)) {
                        definition.add(item);
                    }
                } else {
                    inside.read(payload).map_err(|error| invalid(&error))?;
                }
                continue;
            }
            if !spend(&mut left, 1) {
                return Err(too_many());
            }
            match payload {
                Payload::ModuleSection { .. } => module = Some(Module::default()),
                Payload::ComponentSection { .. } => {
                    definitions.push(Definition::default());
                    open.push(definitions.len() - 1);
                }
                Payload::End(_) => {
                    let ended = open.pop();
                    if let (Some(ended), Some(around)) = (ended, open.last())
                        && let Some(definition) = definitions.get_mut(*around)
                    {
                        definition.add(Item::Component(ended));
                    }
                }
                other => {
                    if let Some(definition) = open.last().and_then(|at| definitions.get_mut(*at)) {
                        let read = definition.read(other, &mut left);
                        if !read.map_err(|error| invalid(&error))? {
                            return Err(too_many());
                        }
                    }
                }
            }
        }
        Ok(Read { definitions })
    }
}

impl<'a> Definition<'a> {
    fn add(&mut self, item: Item<'a>) {
        self.definitions += 1;
        self.items.push(item);
    }

    /// Counts so many definitions; false where they are more than are left.
    fn defines(&mut self, count: u64, left: &mut u64) -> bool {
        self.definitions += count;
        spend(left, count)
    }

    /// Counts long names, which are looked at in each instance, as further definitions; false where they are more
    /// than are left.
    fn names<'n>(&mut self, names: impl IntoIterator<Item = &'n str>, left: &mut u64) -> bool {
        let long: usize = names.into_iter().map(|name| name.len() / NAME).sum();
        self.defines(long as u64, left)
    }

    /// Takes a section into account; false where it has more definitions than are left.
    fn read(
        &mut self,
        payload: Payload<'a>,
        left: &mut u64,
    ) -> Result<bool, wasmparser::BinaryReaderError> {
        if !self.defines(definitions_in(&payload), left) {
            return Ok(false);
        }
        match payload {
            Payload::InstanceSection(instances) => {
                for instance in instances {
                    if let Instance::Instantiate { module_index, args } = instance? {
                        if !self.defines(args.len() as u64, left) {
                            return Ok(false);
                        }
                        self.items.push(Item::Instantiate(module_index));
                    }
                }
            }
            Payload::ComponentInstanceSection(instances) => {
                for instance in instances {
                    let item = match instance? {
                        ComponentInstance::Instantiate {
                            component_index,
                            args,
                        } => {
                            let names = args.iter().map(|argument| argument.name);
                            if !self.names(names, left) || !self.defines(args.len() as u64, left) {
                                return Ok(false);
                            }
                            let arguments = args.iter().filter_map(|argument| {
                                let kind = kind(argument.kind)?;
                                Some((argument.name, (kind, argument.index)))
                            });
                            Item::InstantiateComponent(component_index, arguments.collect())
                        }
                        ComponentInstance::FromExports(exports) => {
                            let names = exports.iter().map(|export| export.name.name);
                            if !self.names(names, left) || !self.defines(exports.len() as u64, left)
                            {
                                return Ok(false);
                            }
                            let exports = exports.iter().filter_map(|export| {
                                Some((export.name.name, (kind(export.kind)?, export.index)))
                            });
                            Item::Group(exports.collect())
                        }
                    };
                    self.items.push(item);
                }
            }
            Payload::ComponentAliasSection(aliases) => {
                for alias in aliases {
                    let item = match alias? {
                        ComponentAlias::InstanceExport {
                            kind: exported,
                            instance_index,
                            name,
                        } => {
                            if !self.names([name], left) {
                                return Ok(false);
                            }
                            kind(exported).map(|kind| Item::AliasExport(kind, instance_index, name))
                        }
                        ComponentAlias::Outer { kind, count, index } => match kind {
                            ComponentOuterAliasKind::CoreModule => Some(Kind::Module),
                            ComponentOuterAliasKind::Component => Some(Kind::Component),
                            _ => None,
                        }
                        .map(|kind| Item::AliasOuter(kind, count, index)),
                        ComponentAlias::CoreInstanceExport { .. } => None,
                    };
                    self.items.extend(item);
                }
            }
            Payload::ComponentImportSection(imports) => {
                for import in imports {
                    let import = import?;
                    if !self.names([import.name.name], left) {
                        return Ok(false);
                    }
                    let item =
                        kind(import.ty.kind()).map(|kind| Item::Import(import.name.name, kind));
                    self.items.extend(item);
                }
            }
            Payload::ComponentExportSection(exports) => {
                for export in exports {
                    let export = export?;
                    if !self.names([export.name.name], left) {
                        return Ok(false);
                    }
                    let item = kind(export.kind)
                        .map(|kind| Item::Export(export.name.name, (kind, export.index)));
                    self.items.extend(item);
                }
            }
            Payload::ComponentCanonicalSection(functions) => {
                self.functions += u64::from(functions.count());
            }
            Payload::ComponentTypeSection(types) => {
                for one in types {
                    let is_resource = matches!(one?, wasmparser::ComponentType::Resource { .. });
                    self.resources += u64::from(is_resource);
                }
            }
            _ => {}
        }
        Ok(true)
    }
}

/// How many definitions a section of a component has.
fn definitions_in(payload: &Payload<'_>) -> u64 {
    u64::from(match payload {
        Payload::InstanceSection(section) => section.count(),
        Payload::ComponentInstanceSection(section) => section.count(),
        Payload::ComponentAliasSection(section) => section.count(),
        Payload::ComponentImportSection(section) => section.count(),
        Payload::ComponentExportSection(section) => section.count(),
        Payload::ComponentCanonicalSection(section) => section.count(),
        Payload::ComponentTypeSection(section) => section.count(),
        Payload::CoreTypeSection(section) => section.count(),
        _ => 0,
    })
}

/// Takes so many off; false where there are not so many.
fn spend(left: &mut u64, count: u64) -> bool {
    match left.checked_sub(count) {
        Some(rest) => {
            *left = rest;
            true
        }
        None => false,
    }
}

fn too_many() -> CompileError {
    CompileError::TooLarge {
        what: "a number of definitions, over all instances,",
        found: format!("more than {}", grouped(MAX_STEPS)),
        allowed: grouped(MAX_STEPS),
    }
}

fn kind(kind: ComponentExternalKind) -> Option<Kind> {
    match kind {
        ComponentExternalKind::Module => Some(Kind::Module),
        ComponentExternalKind::Component => Some(Kind::Component),
        ComponentExternalKind::Instance => Some(Kind::Instance),
        ComponentExternalKind::Func
        | ComponentExternalKind::Value
        | ComponentExternalKind::Type => None,
    }
}

/// What a place in a numbering stands for.
#[derive(Clone, Copy)]
enum Value {
    Module(u64, u64),
    /// A definition, and the frame that it was defined in.
    Component(usize, usize),
    /// A place in [`Walk::instances`].
    Instance(usize),
    /// The host's, or not valid, which the compiler says.
    Unknown,
}

type Named<'a> = HashMap<&'a str, Value>;

/// A component that is being instantiated.
#[derive(Default)]
struct Frame {
    around: Option<usize>,
    modules: Vec<Value>,
    components: Vec<Value>,
    instances: Vec<Value>,
}

impl Frame {
    fn of(&mut self, kind: Kind) -> &mut Vec<Value> {
        match kind {
            Kind::Module => &mut self.modules,
            Kind::Component => &mut self.components,
            Kind::Instance => &mut self.instances,
        }
    }
}

struct Walk<'w, 'a> {
    read: &'w Read<'a>,
    frames: Vec<Frame>,
    /// What each instance exports.
    instances: Vec<Named<'a>>,
    steps: u64,
    parts: u64,
    bytes: u64,
}

impl<'a> Walk<'_, 'a> {
    fn instantiate(
        &mut self,
        definition: usize,
        around: Option<usize>,
        arguments: Named<'a>,
        depth: usize,
    ) -> Result<Value, CompileError> {
        let Some(definition) = self.read.definitions.get(definition) else {
            return Ok(Value::Unknown);
        };
        if depth > MAX_DEPTH {
            return Err(CompileError::TooLarge {
                what: "instances within instances, to a depth",
                found: format!("more than {MAX_DEPTH}"),
                allowed: MAX_DEPTH.to_string(),
            });
        }
        self.steps = self.steps.saturating_add(definition.definitions + 1);
        if self.steps > MAX_STEPS {
            return Err(too_many());
        }
        self.takes(LOWERED.saturating_mul(definition.functions));
        self.takes(RESOURCE.saturating_mul(definition.resources));
        self.has(definition.resources)?;
        self.has(PARTS_OF_LOWERED.saturating_mul(definition.functions))?;
        if depth > 0 {
            self.takes(COMPONENT);
        }
        let frame = self.frames.len();
        self.frames.push(Frame {
            around,
            ..Frame::default()
        });
        let mut exports = Named::new();
        for item in &definition.items {
            match item {
                Item::Module(bytes, parts) => {
                    self.define(frame, Kind::Module, Value::Module(*bytes, *parts));
                }
                Item::Component(inner) => {
                    self.define(frame, Kind::Component, Value::Component(*inner, frame));
                }
                Item::Import(name, kind) => {
                    let value = arguments.get(name).copied().unwrap_or(Value::Unknown);
                    self.define(frame, *kind, value);
                }
                Item::Instantiate(module) => {
                    if let Value::Module(bytes, parts) = self.find(frame, (Kind::Module, *module)) {
                        self.takes(bytes);
                        self.has(parts)?;
                    }
                }
                Item::InstantiateComponent(component, arguments) => {
                    let instance = match self.find(frame, (Kind::Component, *component)) {
                        Value::Component(inner, around) => {
                            let arguments = self.named(frame, arguments);
                            self.instantiate(inner, Some(around), arguments, depth + 1)?
                        }
                        _ => Value::Unknown,
                    };
                    self.define(frame, Kind::Instance, instance);
                }
                Item::Group(members) => {
                    let named = self.named(frame, members);
                    let instance = self.instance(named);
                    self.define(frame, Kind::Instance, instance);
                }
                Item::AliasExport(kind, instance, name) => {
                    let value = match self.find(frame, (Kind::Instance, *instance)) {
                        Value::Instance(at) => self
                            .instances
                            .get(at)
                            .and_then(|exports| exports.get(name).copied()),
                        _ => None,
                    };
                    self.define(frame, *kind, value.unwrap_or(Value::Unknown));
                }
                Item::AliasOuter(kind, count, index) => {
                    let mut from = Some(frame);
                    for _ in 0..*count {
                        from = from.and_then(|at| self.frames.get(at)?.around);
                        if from.is_none() {
                            break;
                        }
                    }
                    let value = from.map(|from| self.find(from, (*kind, *index)));
                    self.define(frame, *kind, value.unwrap_or(Value::Unknown));
                }
                Item::Export(name, place) => {
                    let value = self.find(frame, *place);
                    exports.insert(name, value);
                    // What is exported has a second number.
                    self.define(frame, place.0, value);
                }
            }
        }
        Ok(self.instance(exports))
    }

    /// There are so many parts more to make.
    fn has(&mut self, parts: u64) -> Result<(), CompileError> {
        self.parts = self.parts.saturating_add(parts);
        if self.parts <= MAX_PARTS {
            return Ok(());
        }
        Err(CompileError::TooLarge {
            what: "a number of imports (four times), functions that components call (twelve times), segments of \
                   elements (eight times) and what is in them (six times), memories (400 times), globals, what these begin \
                   with, segments of data and resources, over all instances (each 15 times),",
            found: format!("more than {}", grouped(MAX_PARTS)),
            allowed: grouped(MAX_PARTS),
        })
    }

    fn takes(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn define(&mut self, frame: usize, kind: Kind, value: Value) {
        if let Some(frame) = self.frames.get_mut(frame) {
            frame.of(kind).push(value);
        }
    }

    fn find(&mut self, frame: usize, (kind, index): Place) -> Value {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        let frame = self.frames.get_mut(frame);
        let found = frame.and_then(|frame| frame.of(kind).get(index).copied());
        found.unwrap_or(Value::Unknown)
    }

    fn named(&mut self, frame: usize, places: &[(&'a str, Place)]) -> Named<'a> {
        let found = places
            .iter()
            .map(|(name, place)| (*name, self.find(frame, *place)));
        found.collect()
    }

    fn instance(&mut self, exports: Named<'a>) -> Value {
        self.instances.push(exports);
        Value::Instance(self.instances.len() - 1)
    }
}

#[cfg(test)]
mod tests;
