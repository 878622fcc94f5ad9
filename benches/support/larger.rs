//! Makes a component larger: adds functions and data to its first module, which never come to run,
//! but must be compiled, kept, loaded and mapped all the same.

use std::convert::Infallible;

use wasm_encoder::reencode::{Error, Reencode, ReencodeComponent, component_utils, utils};
use wasm_encoder::{
    BlockType, CodeSection, Component, ConstExpr, DataSection, Function, FunctionSection,
    ImportSection, MemArg, MemorySection, MemoryType, TypeSection, ValType,
};
use wasmparser::{
    CodeSectionReader, DataSectionReader, FunctionSectionReader, ImportSectionReader,
    MemorySectionReader, Parser, TypeRef, TypeSectionReader,
};

const PAGE: usize = 1 << 16;
/// Steps in each function. A function so has about 350 bytes, as those of a program written in
/// Rust have on average.
const STEPS: usize = 28;

/// The component with about so many bytes of code and of data more.
pub fn larger(component: &[u8], code_bytes: usize, data_bytes: usize) -> Vec<u8> {
    let mut encoder = Larger {
        code_bytes,
        data_bytes,
        random: 88_172_645_463_325_252,
        ..Larger::default()
    };
    let mut larger = Component::new();
    encoder
        .parse_component(&mut larger, Parser::new(0), component)
        .expect("the guest is a component");
    larger.finish()
}

#[derive(Default)]
struct Larger {
    code_bytes: usize,
    data_bytes: usize,
    random: u64,
    /// Whether the first module was met, and whether it is the one at hand.
    met: bool,
    at_it: bool,
    /// The functions before those that are added, and these.
    before: u32,
    added: Vec<Function>,
    /// The type of the functions that are added.
    kind: u32,
    /// Where the data goes: to the end of what was the memory.
    place: u64,
}

impl Larger {
    fn random(&mut self, below: u32) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 32) as u32 % below
    }

    /// A function of numbers, branches, memory and calls of others.
    fn function(&mut self) -> Function {
        let locals = 6;
        let mut function = Function::new([(locals - 2, ValType::I32)]);
        for _ in 0..STEPS {
            let [a, b, c] = [(); 3].map(|()| self.random(locals));
            let constant = self.random(1 << 20).cast_signed();
            let place = MemArg {
                offset: self.random(1 << 12).into(),
                align: 2,
                memory_index: 0,
            };
            let kind = self.random(5);
            // One of those before it, or itself.
            let callee = self.before + self.random(self.added.len() as u32 + 1);
            let mut code = function.instructions();
            match kind {
                0 => code
                    .local_get(a)
                    .local_get(b)
                    .i32_const(constant)
                    .i32_xor()
                    .i32_add(),
                1 => code
                    .local_get(a)
                    .i32_const(0xfff8)
                    .i32_and()
                    .i32_load(place),
                2 => {
                    code.local_get(b)
                        .i32_const(0xfff8)
                        .i32_and()
                        .local_get(c)
                        .i32_store(place);
                    code.local_get(b).i32_const(3).i32_shl()
                }
                3 => {
                    code.local_get(a).i32_const(constant).i32_lt_u();
                    code.if_(BlockType::Result(ValType::I32)).local_get(b);
                    code.else_()
                        .local_get(c)
                        .i32_const(constant)
                        .i32_sub()
                        .end()
                }
                _ => code.local_get(a).local_get(b).call(callee),
            };
            function.instructions().local_set(c);
        }
        function.instructions().local_get(0).end();
        function
    }
}

type Outcome = Result<(), Error<Infallible>>;

impl Reencode for Larger {
    type Error = Infallible;

    fn parse_type_section(
        &mut self,
        types: &mut TypeSection,
        section: TypeSectionReader<'_>,
    ) -> Outcome {
        utils::parse_type_section(self, types, section)?;
        if self.at_it {
            self.kind = types.len();
            types.ty().function([ValType::I32; 2], [ValType::I32]);
        }
        Ok(())
    }

    fn parse_import_section(
        &mut self,
        imports: &mut ImportSection,
        section: ImportSectionReader<'_>,
    ) -> Outcome {
        for import in section.clone().into_imports().take_while(|_| self.at_it) {
            self.before += u32::from(matches!(import?.ty, TypeRef::Func(_)));
        }
        utils::parse_import_section(self, imports, section)
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: FunctionSectionReader<'_>,
    ) -> Outcome {
        self.before += if self.at_it { section.count() } else { 0 };
        utils::parse_function_section(self, functions, section)?;
        let mut bytes = 0;
        while self.at_it && bytes < self.code_bytes {
            let function = self.function();
            bytes += function.byte_len();
            self.added.push(function);
            functions.function(self.kind);
        }
        Ok(())
    }

    fn parse_code_section(
        &mut self,
        code: &mut CodeSection,
        section: CodeSectionReader<'_>,
    ) -> Outcome {
        utils::parse_code_section(self, code, section)?;
        for function in std::mem::take(&mut self.added) {
            code.function(&function);
        }
        Ok(())
    }

    fn parse_memory_section(
        &mut self,
        memories: &mut MemorySection,
        section: MemorySectionReader<'_>,
    ) -> Outcome {
        if !self.at_it {
            return utils::parse_memory_section(self, memories, section);
        }
        for memory in section {
            let memory = self.memory_type(memory?)?;
            self.place = memory.minimum * PAGE as u64;
            memories.memory(MemoryType {
                minimum: memory.minimum + self.data_bytes.div_ceil(PAGE) as u64,
                ..memory
            });
        }
        Ok(())
    }

    fn data_count(&mut self, count: u32) -> Result<u32, Error<Infallible>> {
        Ok(count + u32::from(self.at_it))
    }

    fn parse_data_section(
        &mut self,
        data: &mut DataSection,
        section: DataSectionReader<'_>,
    ) -> Outcome {
        utils::parse_data_section(self, data, section)?;
        if self.at_it {
            let bytes: Vec<u8> = (0..self.data_bytes)
                .map(|_| self.random(256) as u8)
                .collect();
            let place = u32::try_from(self.place).expect("it has 32 bits");
            data.active(0, &ConstExpr::i32_const(place.cast_signed()), bytes);
        }
        Ok(())
    }
}

impl ReencodeComponent for Larger {
    fn parse_component_submodule(
        &mut self,
        component: &mut Component,
        parser: Parser,
        module: &[u8],
    ) -> Outcome {
        self.at_it = !std::mem::replace(&mut self.met, true);
        component_utils::parse_component_submodule(self, component, parser, module)?;
        self.at_it = false;
        Ok(())
    }
}
