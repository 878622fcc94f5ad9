//! Where the compiler counts no coverage, libFuzzer keeps nothing that it finds, and would go on from a
//! single byte. So every other input is made from one of the corpus.

use libfuzzer_sys::fuzzer_mutate;

/// Changes an input, or one of these in its place.
pub fn mutated(seeds: &[&[u8]], data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut size = size;
    if seed.is_multiple_of(2) {
        let start = seeds[seed as usize / 2 % seeds.len()];
        size = start.len().min(max_size);
        data[..size].copy_from_slice(&start[..size]);
    }
    for _ in 0..=seed / 8 % 4 {
        size = fuzzer_mutate(data, size, max_size);
    }
    size
}
