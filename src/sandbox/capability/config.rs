//! Configuration, through `wasi:config`.

use crate::sandbox::contract::bindings::wasi::config::store;
use crate::sandbox::state::State;

impl store::Host for State {
    fn get(&mut self, key: String) -> Result<Option<String>, store::Error> {
        let value = self.config.get(&key).cloned();
        if value.is_none() {
            self.network.sought().key(&key);
        }
        Ok(value)
    }

    fn get_all(&mut self) -> Result<Vec<(String, String)>, store::Error> {
        self.network.sought().every_key();
        let pair = |(key, value): (&String, &String)| (key.clone(), value.clone());
        Ok(self.config.iter().map(pair).collect())
    }
}
