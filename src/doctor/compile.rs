//! What bounds a component before and while it is compiled.

use super::check::{Figures, Finding, Kind, Unit};
use super::ground::{Ground, Probe, Trouble};
use super::handmade::Handmade;
use crate::execution::BoxFuture;
use crate::host::{Host, LoadError};
use crate::sandbox::{CompileError, CompileSettings, Isolation, MAX_NESTING, MAX_PARTS_OF_TYPES};

pub(super) const PROBES: &[Probe] = &[
    compile("component_bytes", "a component a byte too long", |_| {
        Box::pin(component_bytes())
    }),
    compile(
        "functions",
        "a function too many",
        |_| Box::pin(functions()),
    ),
    compile("function_bytes", "a function too long", |_| {
        Box::pin(function_bytes())
    }),
    compile("nesting", "a type in a type, too often", |_| {
        Box::pin(nesting())
    }),
    compile("types", "types of too many parts", |_| Box::pin(types())),
    compile("artifact", "little that becomes much", |_| {
        Box::pin(artifact())
    }),
    compile("child", "with too little memory", |ground| {
        Box::pin(child(ground))
    }),
];

const fn compile(
    name: &'static str,
    tried: &'static str,
    probe: for<'g> fn(&'g Ground) -> BoxFuture<'g, Result<Finding, Trouble>>,
) -> Probe {
    Probe {
        kind: Kind::Compile,
        name,
        tried,
        probe,
    }
}

/// Loads a guest under these settings, in a host of its own that has compiled nothing.
async fn load(settings: CompileSettings, guest: &[u8]) -> Result<Option<CompileError>, Trouble> {
    let host = Host::builder().concurrency(1).compile(settings).build()?;
    match host.load_bytes(guest).await {
        Ok(_) => Ok(None),
        Err(LoadError::Compile(error)) => Ok(Some(error)),
        Err(error) => Err(error.into()),
    }
}

/// The guest is compiled under one setting, the most of which the figures give, and refused under the
/// one next to it.
async fn bounded(
    guest: &[u8],
    within: CompileSettings,
    past: CompileSettings,
    figures: Figures,
) -> Result<Finding, Trouble> {
    if let Some(error) = load(within, guest).await? {
        return Ok(Finding::unknown(format!("within the limit: {error}")));
    }
    Ok(match load(past, guest).await? {
        Some(CompileError::TooLarge { .. }) => Finding::holds("not compiled").figures(figures),
        Some(error) => Finding::broken(format!("not for its size was it refused: {error}")),
        None => Finding::broken("it was compiled"),
    })
}

async fn component_bytes() -> Result<Finding, Trouble> {
    let guest = Handmade::default().component().map_err(Trouble::Text)?;
    let settings = |bytes| CompileSettings {
        max_component_bytes: bytes,
        ..CompileSettings::default()
    };
    let bytes = guest.len() as u64;
    let figures = Figures::exact(Unit::Bytes, bytes, bytes);
    bounded(&guest, settings(bytes), settings(bytes - 1), figures).await
}

async fn functions() -> Result<Finding, Trouble> {
    let guest = Handmade {
        fields: "(func) ".repeat(96),
        ..Handmade::default()
    };
    let guest = guest.component().map_err(Trouble::Text)?;
    let settings = |functions| CompileSettings {
        max_functions: functions,
        ..CompileSettings::default()
    };
    // A guest made by hand has four of its own.
    let figures = Figures::exact(Unit::Count, 100, 100);
    bounded(&guest, settings(100), settings(99), figures).await
}

async fn function_bytes() -> Result<Finding, Trouble> {
    const BYTES: u64 = 10_000;
    let guest = Handmade {
        // Each is one byte, and two more are for its locals and its end.
        fields: format!("(func {})", "nop ".repeat(9_998)),
        ..Handmade::default()
    };
    let guest = guest.component().map_err(Trouble::Text)?;
    let settings = |bytes| CompileSettings {
        max_function_bytes: bytes,
        ..CompileSettings::default()
    };
    let figures = Figures::exact(Unit::Bytes, BYTES, BYTES);
    bounded(&guest, settings(BYTES), settings(BYTES - 1), figures).await
}

/// Whoever reads types within each other calls itself, and would use up its stack.
async fn nesting() -> Result<Finding, Trouble> {
    let guest = Handmade::default().component().map_err(Trouble::Text)?;
    // A section with one component type, which declares one, and so on.
    let nested = |types: usize| {
        let mut section = vec![1];
        section.extend([0x41, 1, 1].repeat(types - 1));
        section.extend([0x41, 0]);
        let length = [section.len() as u8 | 0x80, (section.len() >> 7) as u8];
        [guest.as_slice(), &[7], &length, &section].concat()
    };
    let most = MAX_NESTING;
    let default = CompileSettings::default;
    if let Some(error) = load(default(), &nested(most)).await? {
        return Ok(Finding::unknown(format!("within the limit: {error}")));
    }
    Ok(match load(default(), &nested(most + 1)).await? {
        Some(CompileError::TooLarge { .. }) => Finding::holds("not compiled")
            .figures(Figures::exact(Unit::Count, most as u64, most as u64)),
        Some(error) => Finding::broken(format!("not for its depth was it refused: {error}")),
        None => Finding::broken("it was compiled"),
    })
}

/// Whoever reads types keeps all their parts at once.
async fn types() -> Result<Finding, Trouble> {
    let guest = Handmade::default().component().map_err(Trouble::Text)?;
    // A section with the type of an instance that declares so many types.
    let declaring = |types: u32| {
        let mut section = vec![1, 0x42];
        section.extend(leb(types));
        section.extend([1, 0x7f].repeat(types as usize));
        let length = leb(section.len() as u32);
        [guest.as_slice(), &[7], &length, &section].concat()
    };
    let most = MAX_PARTS_OF_TYPES as u32;
    let default = CompileSettings::default;
    if let Some(error) = load(default(), &declaring(most / 10)).await? {
        return Ok(Finding::unknown(format!("within the limit: {error}")));
    }
    Ok(match load(default(), &declaring(most)).await? {
        Some(CompileError::TooLarge { .. }) => Finding::holds("not compiled"),
        Some(error) => Finding::broken(format!("not for its parts was it refused: {error}")),
        None => Finding::broken("it was compiled"),
    })
}

/// A number as the format has them.
fn leb(mut number: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// What the engine makes of types that refer to each other stays in memory.
async fn artifact() -> Result<Finding, Trouble> {
    // A type with a long name, and two of ten each that refer to the one before.
    let guest = |name: usize| {
        let ten: String = (0..10)
            .map(|number| format!("(export \"a{number}\" (instance (type 0)))"))
            .collect();
        Handmade {
            before: format!(
                "(type $a (instance (type bool) (export \"a-{}\" (type (eq 0)))))
                (type $b (instance (alias outer 1 $a (type)) {ten}))
                (type $c (instance (alias outer 1 $b (type)) {ten}))
                (import \"wasi:random/insecure@0.2.0\" (instance (type $c)))",
                "a".repeat(name)
            ),
            ..Handmade::default()
        }
        .component()
        .map_err(Trouble::Text)
    };
    let default = CompileSettings::default;
    if let Some(error) = load(default(), &guest(1_000)?).await? {
        return Ok(Finding::unknown(format!("within the limit: {error}")));
    }
    Ok(match load(default(), &guest(20_000)?).await? {
        Some(CompileError::TooLarge { .. }) => Finding::holds("not kept"),
        Some(error) => Finding::broken(format!("not for what it becomes was it refused: {error}")),
        None => Finding::broken("it was loaded"),
    })
}

/// The child process that compiles gets no more memory than it is allowed.
async fn child(ground: &Ground) -> Result<Finding, Trouble> {
    let Isolation::Child {
        program,
        arguments,
        wall_time,
        ..
    } = &ground.isolation
    else {
        return Ok(Finding::not_applicable(
            "this host compiles in its own process",
        ));
    };
    let guest = Handmade::default().component().map_err(Trouble::Text)?;
    let within = CompileSettings {
        isolation: ground.isolation.clone(),
        ..CompileSettings::default()
    };
    if let Some(error) = load(within, &guest).await? {
        return Ok(Finding::unknown(format!("within its limits: {error}")));
    }
    let starved = CompileSettings {
        isolation: Isolation::Child {
            program: program.clone(),
            arguments: arguments.clone(),
            // Less than the program itself takes.
            memory_bytes: 1 << 20,
            wall_time: *wall_time,
        },
        ..CompileSettings::default()
    };
    // However it says so: nothing but its memory is different.
    Ok(match load(starved, &guest).await? {
        Some(_) => Finding::holds("its own limits"),
        None => Finding::broken("it compiled with less memory than it needs"),
    })
}
