//! Skills: which there are, what they are, and how they come and go.

use std::collections::BTreeMap;

use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::{Answer, Asks, Named, Parameters, Whole, parse, read};
use super::problem::{Problem, ProblemKind};
use super::state::Service;
use crate::grant::{Denial, Grants};
use crate::serve::caller::Scope;
use crate::skill::{Description, Installed, Package, SkillRef};
use crate::{CompileSettings, HostError, InstalledSkills};

/// What a skill is and says of itself.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct SkillDetails {
    /// Name, version and digest, as it is installed.
    installed: Installed,
    /// What it says of itself: its tools with their schemas.
    description: Description,
    /// What it declares and was not granted, each with what would grant it. It may run without.
    missing: Vec<Denial>,
}

fn skills(service: &Service) -> Result<&InstalledSkills, Problem> {
    service.inner.skills.as_ref().ok_or_else(|| {
        let detail = "this server has no library of skills";
        Problem::new(ProblemKind::NotFound, detail)
    })
}

/// The installed skills.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SkillList {
    /// By name and then by version, the newest first.
    skills: Vec<Installed>,
}

/// List the installed skills
#[utoipa::path(
    get, path = "/v1/skills", tag = "skills",
    responses((status = 200, description = "The installed skills", body = SkillList))
)]
pub(super) async fn list(State(service): State<Service>, _: Asks) -> Result<Response, Problem> {
    let listing = skills(&service)?.list().await?;
    let skills = listing.skills.iter().map(|skill| skill.installed.clone());
    let skills = skills.collect();
    Ok(Answer(SkillList { skills }).into_response())
}

/// A skill's name, `name@version` or `sha256:` and its digest.
pub(super) fn reference(text: &str) -> Result<SkillRef, Problem> {
    text.parse().map_err(|_| Problem::not_found("skill", text))
}

/// Look at a skill
///
/// Its tools with their schemas, and what it declares and was not granted.
#[utoipa::path(
    get, path = "/v1/skills/{skill}", tag = "skills",
    params(("skill" = String, Path, description = "`name`, `name@version`, or `sha256:` and the digest")),
    responses((status = 200, description = "The skill", body = SkillDetails))
)]
pub(super) async fn inspect(
    State(service): State<Service>,
    _: Asks,
    Named(skill): Named<String>,
) -> Result<Response, Problem> {
    let skill = reference(&skill)?;
    let skills = skills(&service)?;
    let listing = skills.list().await?;
    let Some(listed) = listing.find(&skill) else {
        return Err(Problem::not_found("skill", skill));
    };
    let loaded = skills.load(&listed.identity.digest.into()).await?;
    Ok(Answer(SkillDetails {
        installed: listed.installed.clone(),
        description: listed.description.as_ref().clone(),
        missing: skills.host().missing(&loaded, &Grants::default()),
    })
    .into_response())
}

/// A skill that is uploaded, with what belongs to it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Upload {
    /// The component, in base64 (RFC 4648).
    #[serde(with = "base64_bytes")]
    #[schema(value_type = String, content_encoding = "base64")]
    component: Vec<u8>,
    /// The text of `skill.toml`.
    #[serde(default)]
    manifest: Option<String>,
    /// The text of `SKILL.md`.
    #[serde(default)]
    document: Option<String>,
    /// What belongs to `SKILL.md`: files by their paths below `assets`, `references` or `scripts`, in base64. At most 511,
    /// and 16 MiB with `SKILL.md`.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, String>)]
    files: BTreeMap<String, Bytes>,
}

/// Bytes that stand in base64.
#[derive(Deserialize)]
struct Bytes(#[serde(with = "base64_bytes")] Vec<u8>);

mod base64_bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, de};

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        STANDARD.decode(&*text).map_err(de::Error::custom)
    }
}

/// How to install.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct How {
    /// Put it in the place of another one of its name and version.
    #[serde(default)]
    replace: bool,
}

/// Install a skill
///
/// A lone component as `application/wasm`, or one with its `skill.toml`, and `SKILL.md` with its files, as JSON. It is
/// loaded to see that it is one. It is there for everybody, and gets no grants by that.
#[utoipa::path(
    post, path = "/v1/skills", tag = "skills",
    params(How),
    request_body(content((Upload = "application/json"), (Vec<u8> = "application/wasm"))),
    responses((status = 201, description = "It is installed", body = Installed,
        headers(("Location" = String, description = "The skill"))))
)]
pub(super) async fn install(
    State(service): State<Service>,
    asks: Asks,
    Parameters(how): Parameters<How>,
    request: Request,
) -> Result<Response, Problem> {
    asks.need(Scope::Install)?;
    let skills = skills(&service)?;
    let (parts, body) = request.into_parts();
    let media_type = parts.headers.get(CONTENT_TYPE);
    let media_type = media_type.and_then(|value| value.to_str().ok());
    let essence = media_type.unwrap_or_default().split(';').next();
    let essence = essence.unwrap_or_default().trim().to_ascii_lowercase();
    let is_lone = match essence.as_str() {
        "application/wasm" => true,
        "application/json" => false,
        _ => {
            let detail = "the body must be `application/wasm` or `application/json`";
            return Err(Problem::new(ProblemKind::UnsupportedMediaType, detail));
        }
    };
    let Whole { bytes, held: _held } =
        read(body, &service, service.inner.settings.upload_bytes).await?;
    let package = match is_lone {
        true => Package::from_bytes(bytes.to_vec()),
        false => {
            let upload: Upload = parse(&bytes)?;
            let files = upload.files.into_iter();
            let files = files.map(|(path, Bytes(bytes))| (path, bytes)).collect();
            Package::from_parts(upload.component, upload.manifest, upload.document)
                .and_then(|package| package.with_files(files))
                .map_err(|error| Problem::new(ProblemKind::NoSkill, error.to_string()))?
        }
    };
    let most = CompileSettings::default().max_component_bytes;
    if package.component.len() as u64 > most {
        let detail = format!("a component has at most {most} bytes");
        return Err(Problem::new(ProblemKind::TooLarge, detail));
    }
    let installed = skills.install(package, how.replace).await?;
    tracing::info!(
        skill = installed.name, version = installed.version, digest = %installed.digest,
        by = asks.caller.name(), "a skill was installed"
    );
    let place = format!("/v1/skills/{}@{}", installed.name, installed.version);
    let mut response = Answer(installed).into_response();
    *response.status_mut() = StatusCode::CREATED;
    if let Ok(place) = HeaderValue::try_from(place) {
        let headers = response.headers_mut();
        headers.insert(axum::http::header::LOCATION, place);
    }
    Ok(response)
}

/// Remove a skill
///
/// Of several versions, one must be named. Jobs that name it by then wait for another worker that has it.
#[utoipa::path(
    delete, path = "/v1/skills/{skill}", tag = "skills",
    params(("skill" = String, Path, description = "`name`, `name@version`, or `sha256:` and the digest")),
    responses((status = 200, description = "It is removed", body = Installed))
)]
pub(super) async fn remove(
    State(service): State<Service>,
    asks: Asks,
    Named(skill): Named<String>,
) -> Result<Response, Problem> {
    asks.need(Scope::Install)?;
    let skill = reference(&skill)?;
    let skills = skills(&service)?;
    let library = skills.library().clone();
    let removed = blocking(move || library.remove(&skill)).await??;
    skills.refresh().await?;
    tracing::info!(
        skill = removed.name,
        version = removed.version,
        by = asks.caller.name(),
        "a skill was removed"
    );
    Ok(Answer(removed).into_response())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, HostError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| HostError::Internal(format!("a blocking task failed: {error}")))
}
