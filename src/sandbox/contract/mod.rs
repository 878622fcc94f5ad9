//! The guest's contract, bound to a component. The place where another contract would be bound is
//! [`Component::bind`].

pub(super) mod answer;
pub mod types;

use std::sync::Arc;

use wasmtime::component::{self, Linker};
use wasmtime::{Engine, Store};

use super::capability;
use super::compile::Surface;
use super::engine::Tier;
use super::preempt::Code;
use super::state::State;
use crate::skill::{Annotations, Description, Tool};
use crate::text::{is_backtick, named, printable, shortened};

pub(super) mod bindings {
    wasmtime::component::bindgen!({
        path: "wit",
        world: "skill",
        imports: {
            // These wait for the disk, and end the execution where a quota is met.
            "wasi:keyvalue/store": async | trappable,
            "wasi:keyvalue/atomics": async | trappable,
            "wasi:keyvalue/batch": async | trappable,
        },
        exports: { default: async },
        with: {
            "skillhost:skill/types": super::types,
            "wasi:keyvalue/store.bucket": crate::sandbox::capability::Bucket,
            "wasi:keyvalue/atomics.cas": crate::sandbox::capability::Cas,
        },
    });
}

pub(super) use self::types as wit;

/// What this host offers for import: interface and version. A skill that was built against another
/// version with the same major number and no higher minor one (for 0.x: the same minor one) fits, as far
/// as the functions that it uses are there. The patch number says nothing of what is there.
const OFFERED: [(&str, &str); 41] = [
    ("skillhost:skill/types", "1.0.0"),
    ("skillhost:skill/deadline", "1.0.0"),
    ("skillhost:skill/logging", "1.0.0"),
    ("skillhost:skill/progress", "1.0.0"),
    ("skillhost:skill/tokens", "1.0.0"),
    ("wasi:cli/environment", WASI),
    ("wasi:cli/exit", WASI),
    ("wasi:cli/stdin", WASI),
    ("wasi:cli/stdout", WASI),
    ("wasi:cli/stderr", WASI),
    ("wasi:cli/terminal-input", WASI),
    ("wasi:cli/terminal-output", WASI),
    ("wasi:cli/terminal-stdin", WASI),
    ("wasi:cli/terminal-stdout", WASI),
    ("wasi:cli/terminal-stderr", WASI),
    ("wasi:clocks/monotonic-clock", WASI),
    ("wasi:clocks/wall-clock", WASI),
    ("wasi:config/store", "0.2.0-rc.1"),
    ("wasi:keyvalue/atomics", "0.2.0-draft"),
    ("wasi:keyvalue/atomics", "0.2.0-draft2"),
    ("wasi:keyvalue/batch", "0.2.0-draft"),
    ("wasi:keyvalue/batch", "0.2.0-draft2"),
    ("wasi:keyvalue/store", "0.2.0-draft"),
    ("wasi:keyvalue/store", "0.2.0-draft2"),
    ("wasi:filesystem/preopens", WASI),
    ("wasi:filesystem/types", WASI),
    ("wasi:http/outgoing-handler", WASI),
    ("wasi:http/types", WASI),
    ("wasi:io/error", WASI),
    ("wasi:io/poll", WASI),
    ("wasi:io/streams", WASI),
    ("wasi:random/insecure", WASI),
    ("wasi:random/insecure-seed", WASI),
    ("wasi:random/random", WASI),
    ("wasi:sockets/instance-network", WASI),
    ("wasi:sockets/ip-name-lookup", WASI),
    ("wasi:sockets/network", WASI),
    ("wasi:sockets/tcp", WASI),
    ("wasi:sockets/tcp-create-socket", WASI),
    ("wasi:sockets/udp", WASI),
    ("wasi:sockets/udp-create-socket", WASI),
];

const WASI: &str = "0.2";
/// The release of it that wasmtime 48 has.
const WASI_RELEASE: &str = "0.2.12";
const CONTRACT: &str = "1.0.0";
const TOOLS: &str = "skillhost:skill/tools";

/// The longest name of an interface that is shown, in bytes.
const MAX_NAME: usize = 200;

/// A component that does not fit the contract.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misfit {
    /// It exports no tools.
    #[error("it does not export `{TOOLS}@{CONTRACT}`, and so is not a skill")]
    NoTools,
    /// It exports tools of another version of the contract.
    #[error(
        "it exports `{TOOLS}` in version {}; this host speaks version {CONTRACT}",
        named(wanted, MAX_NAME)
    )]
    ToolsVersion {
        /// The version that the component exports.
        wanted: String,
    },
    /// It imports an interface that the host does not offer.
    #[error(
        "it imports `{}`{}, which this host does not offer",
        named(interface, MAX_NAME),
        at(version)
    )]
    NotOffered {
        /// The interface.
        interface: String,
        /// Its version, if it has one.
        version: Option<String>,
    },
    /// It imports an interface in a version that the host does not offer.
    #[error(
        "it imports `{}` in version {}; this host offers version {offered}",
        named(interface, MAX_NAME),
        named(wanted, MAX_NAME)
    )]
    ImportVersion {
        /// The interface.
        interface: String,
        /// The version that the component wants.
        wanted: String,
        /// The version that the host offers.
        offered: String,
    },
    /// It imports an interface in a version that the host should serve, and of that something that
    /// the host's has not, or has otherwise.
    #[error(
        "it imports `{}` in version {}, and of that what this host's version {offered} has not: {reason}",
        named(interface, MAX_NAME),
        named(wanted, MAX_NAME)
    )]
    Import {
        /// The interface.
        interface: String,
        /// The version that the component wants.
        wanted: String,
        /// The version that the host offers.
        offered: String,
        /// What is missing, or different.
        reason: String,
    },
    /// It exports the tools in the host's version, and something of it is missing, or is of another
    /// type.
    #[error(
        "it exports `{}` in version {}, and not as this host's version {expected} has it: {reason}",
        named(interface, MAX_NAME),
        named(exported, MAX_NAME)
    )]
    Export {
        /// The interface.
        interface: String,
        /// The version that the component exports.
        exported: String,
        /// The version that the host speaks.
        expected: String,
        /// What is missing, or different.
        reason: String,
    },
    /// Something that it imports, of no interface that has a version, is of another type.
    #[error("its imports do not fit: {0}")]
    Shape(String),
}

fn at(version: &Option<String>) -> String {
    version
        .as_ref()
        .map(|version| format!(" in version {}", named(version, MAX_NAME)))
        .unwrap_or_default()
}

/// A compiled component, bound to the contract and to one engine.
pub(crate) struct Component {
    pre: bindings::SkillPre<State>,
    pub(super) tier: Tier,
    pub(super) code: Code,
    /// What it imports and exports.
    pub surface: Surface,
    /// The bytes of the contexts of all its instances.
    pub context_bytes: u64,
    /// The memories that it has, in all its modules.
    pub(super) memories: u32,
}

impl Component {
    /// Binds compiled code to the contract.
    pub fn bind(
        component: &component::Component,
        tier: &Tier,
        context_bytes: u64,
    ) -> Result<Arc<Self>, Misfit> {
        let surface = surface(component, &tier.engine);
        if let Some(misfit) = misfit(&surface) {
            return Err(misfit);
        }
        let pre = linker(&tier.engine)
            .and_then(|linker| linker.instantiate_pre(component))
            .map_err(|error| import_of_another_shape(&surface, &format!("{error:#}")))?;
        let pre = bindings::SkillPre::new(pre)
            .map_err(|error| export_of_another_shape(&surface, &format!("{error:#}")))?;
        Ok(Arc::new(Component {
            pre,
            tier: tier.clone(),
            code: Code::of(component),
            surface,
            context_bytes,
            // A component whose modules come from outside does not fit the contract.
            memories: component
                .resources_required()
                .map_or(u32::MAX, |resources| resources.num_memories),
        }))
    }

    pub(super) fn instantiate(
        &self,
        store: &mut Store<State>,
    ) -> impl Future<Output = wasmtime::Result<bindings::Skill>> {
        self.pre.instantiate_async(store)
    }
}

/// What the engine says of what does not fit, to be shown.
fn reason(surface: &Surface, said: &str) -> String {
    let mut reason = shortened(&printable(said, false), 500).into_owned();
    // A name that has one would end the backticks that the engine puts it between.
    let mut names = surface.imports.iter().chain(&surface.exports);
    if names.any(|name| name.contains(is_backtick)) {
        reason = reason.replace(is_backtick, "'");
    }
    reason
}

/// What is exported and does not fit, as the engine says it.
fn export_of_another_shape(surface: &Surface, said: &str) -> Misfit {
    let exported = tools_version(surface).flatten();
    Misfit::Export {
        interface: TOOLS.to_owned(),
        exported: exported.unwrap_or("none").to_owned(),
        expected: CONTRACT.to_owned(),
        reason: reason(surface, said),
    }
}

/// What is imported and does not fit, as the engine says it: which interface that is about, it names.
fn import_of_another_shape(surface: &Surface, said: &str) -> Misfit {
    let reason = reason(surface, said);
    let named = surface.imports.iter().find_map(|name| {
        let (interface, version) = split(name);
        let version = version.filter(|_| said.contains(&format!("`{name}`")))?;
        let offered = OFFERED
            .iter()
            .find(|(offered, at)| *offered == interface && serves(at, version))?;
        Some((interface, version, offered.1))
    });
    match named {
        Some((interface, wanted, offered)) => Misfit::Import {
            interface: interface.to_owned(),
            wanted: wanted.to_owned(),
            offered: if offered == WASI {
                WASI_RELEASE
            } else {
                offered
            }
            .to_owned(),
            reason,
        },
        None => Misfit::Shape(reason),
    }
}

fn surface(component: &component::Component, engine: &Engine) -> Surface {
    let kind = component.component_type();
    let names = |name: &str| printable(name, false).into_owned();
    Surface {
        imports: kind.imports(engine).map(|(name, _)| names(name)).collect(),
        exports: kind.exports(engine).map(|(name, _)| names(name)).collect(),
    }
}

/// Why a component with this surface is not a skill for this host, if it is not.
pub(crate) fn misfit(surface: &Surface) -> Option<Misfit> {
    match tools_version(surface) {
        None => return Some(Misfit::NoTools),
        Some(version) => {
            let version = version.unwrap_or("none");
            if !serves(CONTRACT, version) {
                return Some(Misfit::ToolsVersion {
                    wanted: version.to_owned(),
                });
            }
        }
    }
    surface.imports.iter().find_map(|name| {
        let (interface, version) = split(name);
        let versions = || OFFERED.iter().filter(|(offered, _)| *offered == interface);
        // Of several versions the one that serves it, or else the last, to be named.
        let serving = version.and_then(|wanted| versions().find(|one| serves(one.1, wanted)));
        let offered = serving.or_else(|| versions().next_back());
        match (offered, version) {
            (None, _) => Some(Misfit::NotOffered {
                interface: interface.to_owned(),
                version: version.map(str::to_owned),
            }),
            (Some((_, offered)), Some(wanted)) if !serves(offered, wanted) => {
                Some(Misfit::ImportVersion {
                    interface: interface.to_owned(),
                    wanted: wanted.to_owned(),
                    offered: (*offered).to_owned(),
                })
            }
            _ => None,
        }
    })
}

/// The version of the tools that are exported, if some are, and if it has one.
fn tools_version(surface: &Surface) -> Option<Option<&str>> {
    let mut exports = surface.exports.iter().map(|name| split(name));
    let (_, version) = exports.find(|(interface, _)| *interface == TOOLS)?;
    Some(version)
}

fn split(name: &str) -> (&str, Option<&str>) {
    match name.split_once('@') {
        Some((interface, version)) => (interface, Some(version)),
        None => (name, None),
    }
}

/// Whether what is offered in one version serves whoever was built against another.
fn serves(offered: &str, wanted: &str) -> bool {
    let Ok(wanted) = semver::Version::parse(wanted) else {
        return false;
    };
    if offered == WASI {
        // All of WASI 0.2.x: releases of it only ever add functions, and whether the one that is
        // wanted is there shows when it is linked.
        return (wanted.major, wanted.minor) == (0, 2);
    }
    match semver::Version::parse(offered) {
        // A patch changes no function; of 0.x the minor number is what the major one is otherwise.
        Ok(offered) if offered.pre.is_empty() => {
            let fits = match (offered.major, offered.minor) {
                (0, 0) => wanted.minor == 0 && wanted.patch == offered.patch,
                (0, minor) => wanted.minor == minor,
                (_, minor) => wanted.minor <= minor,
            };
            wanted.major == offered.major && fits && wanted.pre.is_empty()
        }
        Ok(offered) => wanted == offered,
        Err(_) => false,
    }
}

fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    capability::link(&mut linker)?;
    Ok(linker)
}

/// A guest's description in our own types. Its schemas must at least be JSON.
pub(super) fn description(from: wit::Description) -> Result<Description, String> {
    let json = |what: &str, tool: &str, text: &str| {
        crate::json::parse(text).map_err(|error| {
            format!(
                "the {what} schema of tool {:?} cannot be read: {error}",
                shortened(tool, 100)
            )
        })
    };
    let mut tools = Vec::with_capacity(from.tools.len());
    for tool in from.tools {
        let annotations = tool.annotations;
        tools.push(Tool {
            input_schema: json("input", &tool.name, &tool.input_schema)?,
            output_schema: match &tool.output_schema {
                Some(schema) => Some(json("output", &tool.name, schema)?),
                None => None,
            },
            name: tool.name,
            title: tool.title,
            description: tool.description,
            annotations: Annotations::resolve(
                annotations.read_only,
                annotations.destructive,
                annotations.idempotent,
                annotations.open_world,
            ),
            marked_destructive: annotations.destructive == Some(true)
                && annotations.idempotent != Some(true),
        });
    }
    Ok(Description {
        name: from.name,
        version: from.version,
        description: from.description,
        tools,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn misfit_of(imports: &[&str], exports: &[&str]) -> Option<Misfit> {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        misfit(&Surface {
            imports: owned(imports),
            exports: owned(exports),
        })
    }

    const EXPORT: &[&str] = &["skillhost:skill/tools@1.0.0"];

    #[test]
    fn what_fits_fits() {
        let imports = [
            "wasi:cli/exit@0.2.3",
            "skillhost:skill/logging@1.0.0",
            "wasi:config/store@0.2.0-rc.1",
        ];
        assert_eq!(misfit_of(&imports, EXPORT), None);
    }

    #[test]
    fn the_patch_number_does_not_matter() {
        for (offered, wanted, fits) in [
            ("1.0.0", "1.0.9", true),
            ("1.2.3", "1.2.9", true),
            ("1.2.3", "1.0.9", true),
            ("1.2.3", "1.3.0", false),
            ("1.0.0", "2.0.0", false),
            ("1.0.0", "1.0.9-rc.1", false),
            ("0.3.1", "0.3.9", true),
            ("0.3.1", "0.2.1", false),
            ("0.3.1", "1.3.1", false),
            ("0.0.1", "0.0.2", false),
            ("0.0.1", "0.0.1", true),
            ("0.2.0-draft", "0.2.0", false),
        ] {
            assert_eq!(serves(offered, wanted), fits, "{wanted} by {offered}");
        }
    }

    #[test]
    fn what_does_not_is_named_with_both_versions() {
        let message = |imports: &[&str], exports: &[&str]| {
            misfit_of(imports, exports)
                .map(|misfit| misfit.to_string())
                .unwrap_or_default()
        };
        assert_eq!(
            message(&[], &["wasi:cli/run@0.2.0"]),
            "it does not export `skillhost:skill/tools@1.0.0`, and so is not a skill"
        );
        assert_eq!(
            message(&[], &["skillhost:skill/tools@1.7.0"]),
            "it exports `skillhost:skill/tools` in version 1.7.0; this host speaks version 1.0.0"
        );
        assert_eq!(
            message(&["skillhost:skill/logging@2.0.0"], EXPORT),
            "it imports `skillhost:skill/logging` in version 2.0.0; this host offers version 1.0.0"
        );
        assert_eq!(
            message(&["wasi:cli/exit@0.3.0"], EXPORT),
            "it imports `wasi:cli/exit` in version 0.3.0; this host offers version 0.2"
        );
        assert_eq!(
            message(&["acme:db/query@0.1.0"], EXPORT),
            "it imports `acme:db/query` in version 0.1.0, which this host does not offer"
        );
    }

    #[test]
    fn an_older_minor_version_keeps_working() {
        assert!(serves("1.4.0", "1.0.0"));
        assert!(!serves("1.4.0", "1.5.0"));
        assert!(!serves("1.4.0", "2.0.0"));
        assert!(!serves("0.2.0-rc.1", "0.2.0-rc.2"));
    }
}
