//! Configuration, through `wasi:config`.

use crate::sandbox::contract::bindings::wasi::config::store;
use crate::sandbox::state::State;

impl store::Host for State {
    fn get(&mut self, key: String) -> Result<Option<String>, store::Error> {
        Ok(self.config.get(&key).cloned())
    }

    fn get_all(&mut self) -> Result<Vec<(String, String)>, store::Error> {
        let pair = |(key, value): (&String, &String)| (key.clone(), value.clone());
        Ok(self.config.iter().map(pair).collect())
    }
}
