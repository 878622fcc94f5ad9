//! What one core module comes to.

use wasmparser::{
    ConstExpr, DataKind, ElementItems, ElementKind, ExternalKind, Operator, Payload, TableInit,
};

use super::super::settings::DENSE_IMAGE;
use super::{
    INSTANCE, MAX_PARTS, PARTS_OF_IMPORT, PARTS_OF_INSTANCE, PARTS_OF_MEMORY, PARTS_OF_REFERENCE,
    PARTS_OF_SEGMENT, REFERENCE, SEGMENT, STORE, VALUE,
};

/// As how many bytes of code it counts that a segment of data is copied at the start.
const COPIED: u64 = 64;
/// How many bytes of an expression, which is computed for each instance, are a part: some 20 multiplications in a row, of
/// about 1 ns each.
const COMPUTED: u64 = 64;
/// A page of a memory, in bytes.
const PAGE: u64 = 64 << 10;
/// The smallest piece of an image, in bytes.
const PIECE: u64 = 4 << 10;
/// The places of a table that the engine makes an image of, at most, and the bytes for each (wasmtime's
/// `module_environ.rs`, `try_func_table_init`).
const MAX_PLACES: u64 = 1 << 20;
const PLACE: u64 = 8;

/// What a memory begins with.
#[derive(Default)]
struct Memory {
    /// Of one that is its own.
    bytes: Option<u64>,
    /// The bytes of all segments for it.
    data: u64,
    /// Where those begin and end.
    from: u64,
    to: u64,
}

/// A module that is being read.
#[derive(Default)]
pub(super) struct Module {
    bytes: u64,
    /// What there is to make of each of its instances besides itself.
    parts: u64,
    /// How many types it has.
    pub types: u64,
    functions: u64,
    /// References to functions, as far as they may be of different ones.
    referenced: u64,
    /// Bytes of what is compiled to a function that runs at the start, without segments of data.
    at_start: u64,
    memories: Vec<Memory>,
    /// The same for all segments of data, should they be copied.
    copied: u64,
    /// Whether one of them goes to where the engine does not know beforehand, so that it copies all.
    is_late: bool,
    /// Bytes of the images of tables.
    tables: u64,
}

impl Module {
    /// Takes a section into account.
    pub fn read(&mut self, payload: Payload<'_>) -> Result<(), wasmparser::BinaryReaderError> {
        match payload {
            Payload::TypeSection(types) => {
                for group in types {
                    self.types += group?.types().len() as u64;
                }
            }
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    let ty = import?.ty;
                    let is_function = matches!(
                        ty,
                        wasmparser::TypeRef::Func(_) | wasmparser::TypeRef::FuncExact(_)
                    );
                    if matches!(ty, wasmparser::TypeRef::Memory(_)) {
                        self.memories.push(Memory::default());
                    }
                    self.bytes += REFERENCE;
                    self.parts += PARTS_OF_IMPORT;
                    self.functions += u64::from(is_function);
                    // The engine may hand it on.
                    self.referenced += u64::from(is_function);
                }
            }
            Payload::FunctionSection(functions) => self.functions += u64::from(functions.count()),
            Payload::TableSection(tables) => {
                for table in tables {
                    let table = table?;
                    self.bytes += STORE;
                    self.tables += PLACE * table.ty.initial.min(MAX_PLACES);
                    if let TableInit::Expr(expression) = table.init {
                        self.expression(&expression, table.ty.initial)?;
                    }
                }
            }
            Payload::MemorySection(memories) => {
                for memory in memories {
                    self.bytes += STORE;
                    self.parts += PARTS_OF_MEMORY;
                    self.memories.push(Memory {
                        bytes: Some(memory?.initial.saturating_mul(PAGE)),
                        ..Memory::default()
                    });
                }
            }
            Payload::TagSection(tags) => self.bytes += VALUE * u64::from(tags.count()),
            Payload::GlobalSection(globals) => {
                for global in globals {
                    self.bytes += VALUE;
                    self.parts += 1;
                    self.expression(&global?.init_expr, 1)?;
                }
            }
            Payload::ExportSection(exports) => {
                for export in exports {
                    let kind = export?.kind;
                    let is_function = matches!(kind, ExternalKind::Func | ExternalKind::FuncExact);
                    self.referenced += u64::from(is_function);
                }
            }
            Payload::ElementSection(elements) => {
                for element in elements {
                    let element = element?;
                    let count = match element.items {
                        ElementItems::Functions(functions) => functions.count(),
                        ElementItems::Expressions(_, expressions) => expressions.count(),
                    };
                    self.referenced += u64::from(count);
                    if matches!(element.kind, ElementKind::Passive) {
                        self.bytes += SEGMENT + VALUE * u64::from(count);
                    }
                    if let ElementKind::Active { offset_expr, .. } = &element.kind {
                        self.computed(offset_expr);
                    }
                    if !matches!(element.kind, ElementKind::Declared) {
                        self.at_start += element.range.len() as u64;
                        self.parts += PARTS_OF_SEGMENT + PARTS_OF_REFERENCE * u64::from(count);
                    }
                }
            }
            Payload::DataSection(segments) => {
                for segment in segments {
                    self.bytes += SEGMENT;
                    let segment = segment?;
                    if let DataKind::Active {
                        memory_index,
                        offset_expr,
                    } = segment.kind
                    {
                        self.copied += COPIED + remaining(&offset_expr);
                        self.computed(&offset_expr);
                        let place = plain(&offset_expr)?;
                        let length = segment.data.len() as u64;
                        let known = place.is_some_and(|at| self.is_image(memory_index, at, length));
                        self.is_late |= !known;
                    } else {
                        self.parts += 1;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes into account what so many places begin with.
    fn expression(
        &mut self,
        expression: &ConstExpr<'_>,
        places: u64,
    ) -> Result<(), wasmparser::BinaryReaderError> {
        let mut reader = expression.get_operators_reader();
        let first = reader.read()?;
        if matches!(first, Operator::RefFunc { .. }) {
            self.referenced += 1;
            self.parts += PARTS_OF_REFERENCE * places.min(MAX_PARTS);
        }
        if !is_plain(expression)? {
            self.at_start += remaining(expression);
            self.computed(expression);
        }
        Ok(())
    }

    /// Takes into account that an expression is computed for each instance, which costs no fuel.
    fn computed(&mut self, expression: &ConstExpr<'_>) {
        self.parts += remaining(expression) / COMPUTED;
    }

    /// Whether the engine can put these bytes into the image of a memory, as the first or beside others.
    fn is_image(&mut self, memory: u32, at: u64, length: u64) -> bool {
        let Some(memory) = self.memories.get_mut(memory as usize) else {
            return false;
        };
        let end = at.saturating_add(length);
        if memory.bytes.is_none_or(|bytes| end > bytes) {
            return false;
        }
        if length > 0 {
            memory.from = if memory.data == 0 {
                at
            } else {
                memory.from.min(at)
            };
            memory.to = memory.to.max(end);
            memory.data += length;
        }
        true
    }

    /// Whether the engine copies segments of data at the start, rather than to have them in images (wasmtime's
    /// `module_environ.rs`, `try_static_init`).
    fn copies(&self) -> bool {
        let is_sparse = |memory: &Memory| {
            let image = memory.to - memory.from;
            image >= memory.data.saturating_mul(2) && image >= DENSE_IMAGE
        };
        self.is_late || self.memories.iter().any(is_sparse)
    }

    /// Bytes of what is compiled to a function that runs at the start.
    pub fn at_start(&self) -> u64 {
        self.at_start + if self.copies() { self.copied } else { 0 }
    }

    /// Bytes of what its memories and tables begin with, which stand in what is compiled.
    pub fn images(&self) -> u64 {
        let memories = self.memories.iter().filter(|memory| memory.data > 0);
        let images = memories.map(|memory| memory.to - memory.from + 2 * PIECE);
        self.tables + if self.copies() { 0 } else { images.sum() }
    }

    /// What there is to make of each of its instances.
    pub fn parts(&self) -> u64 {
        PARTS_OF_INSTANCE + self.parts
    }

    /// The bytes of the context of each of its instances.
    pub fn context_bytes(&self) -> u64 {
        // Each that is referred to has a place, once.
        INSTANCE + self.bytes + REFERENCE * self.referenced.min(self.functions)
    }
}

/// The number that an expression is, where it is one.
fn plain(expression: &ConstExpr<'_>) -> Result<Option<u64>, wasmparser::BinaryReaderError> {
    let mut reader = expression.get_operators_reader();
    let number = match reader.read()? {
        Operator::I32Const { value } => Some(u64::from(value.cast_unsigned())),
        Operator::I64Const { value } => Some(value.cast_unsigned()),
        _ => None,
    };
    let is_plain = is_plain(expression)?;
    Ok(number.filter(|_| is_plain))
}

/// Whether a value is known before anything runs.
fn is_plain(expression: &ConstExpr<'_>) -> Result<bool, wasmparser::BinaryReaderError> {
    let mut reader = expression.get_operators_reader();
    let is_constant = matches!(
        reader.read()?,
        Operator::I32Const { .. }
            | Operator::I64Const { .. }
            | Operator::F32Const { .. }
            | Operator::F64Const { .. }
            | Operator::V128Const { .. }
    );
    Ok(is_constant && matches!(reader.read()?, Operator::End))
}

fn remaining(expression: &ConstExpr<'_>) -> u64 {
    expression.get_binary_reader().bytes_remaining() as u64
}
