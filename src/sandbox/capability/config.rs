//! Configuration, through `wasi:config`.

use crate::sandbox::contract::bindings::wasi::config::store;
use crate::sandbox::interrupt::hand_back;
use crate::sandbox::state::State;

impl store::Host for State {
    async fn get(&mut self, key: String) -> Result<Option<String>, store::Error> {
        // A key that is asked for may be of any length.
        hand_back(key.len()).await;
        Ok(self.config.get(&key).cloned())
    }

    async fn get_all(&mut self) -> Result<Vec<(String, String)>, store::Error> {
        let all: Vec<(String, String)> = self
            .config
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        hand_back(all.iter().map(|(key, value)| key.len() + value.len()).sum()).await;
        Ok(all)
    }
}
