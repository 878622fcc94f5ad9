#![allow(missing_docs, unused, clippy::all)]
use crate::skill::*;
use crate::*;
use std::sync::Arc;
#[derive(Clone)]
pub struct InstalledSkills;
pub struct Listing {
    pub skills: Vec<Arc<ListedSkill>>,
}
pub struct ListedSkill {
    pub identity: SkillIdentity,
    pub installed: Installed,
    pub description: Arc<Description>,
}
impl Listing {
    pub fn find(&self, _: &SkillRef) -> Option<&Arc<ListedSkill>> {
        None
    }
}
impl InstalledSkills {
    pub fn host(&self) -> &Host {
        todo!()
    }
    pub fn library(&self) -> &Library {
        todo!()
    }
    pub async fn list(&self) -> Result<Arc<Listing>, LibraryError> {
        todo!()
    }
    pub async fn refresh(&self) -> Result<Arc<Listing>, LibraryError> {
        todo!()
    }
    pub async fn load(&self, _: &SkillRef) -> Result<Skill, Failure> {
        todo!()
    }
}
