//! What one core module comes to.

use wasmparser::{
    ConstExpr, DataKind, ElementItems, ElementKind, ExternalKind, Operator, Payload, TableInit,
};

use super::{
    INSTANCE, MAX_PARTS, PARTS_OF_IMPORT, PARTS_OF_REFERENCE, PARTS_OF_SEGMENT, REFERENCE, SEGMENT,
    STORE, VALUE,
};

/// As how many bytes of code it counts that a segment of data goes to a place that is only known at the start.
const COPIED: u64 = 64;

/// A module that is being read.
#[derive(Default)]
pub(super) struct Module {
    bytes: u64,
    /// What there is to make of each of its instances.
    pub parts: u64,
    /// How many types it has.
    pub types: u64,
    functions: u64,
    /// References to functions, as far as they may be of different ones.
    referenced: u64,
    /// Bytes of what is compiled to a function that runs at the start.
    pub at_start: u64,
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
                    let is_function = matches!(
                        import?.ty,
                        wasmparser::TypeRef::Func(_) | wasmparser::TypeRef::FuncExact(_)
                    );
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
                    if let TableInit::Expr(expression) = table.init {
                        self.expression(&expression, table.ty.initial)?;
                    }
                }
            }
            Payload::MemorySection(memories) => self.bytes += STORE * u64::from(memories.count()),
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
                    if !matches!(element.kind, ElementKind::Declared) {
                        self.at_start += element.range.len() as u64;
                        self.parts += PARTS_OF_SEGMENT + PARTS_OF_REFERENCE * u64::from(count);
                    }
                }
            }
            Payload::DataSection(segments) => {
                for segment in segments {
                    self.bytes += SEGMENT;
                    if let DataKind::Active { offset_expr, .. } = segment?.kind
                        && !is_plain(&offset_expr)?
                    {
                        self.at_start += COPIED + remaining(&offset_expr);
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
        }
        Ok(())
    }

    /// The bytes of the context of each of its instances.
    pub fn context_bytes(&self) -> u64 {
        // Each that is referred to has a place, once.
        INSTANCE + self.bytes + REFERENCE * self.referenced.min(self.functions)
    }
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
