//! The guest of the benchmarks: one trivial tool, five computing kernels, and six ways of not
//! coming back.

wit_bindgen::generate!({ path: "../../wit", world: "skill", generate_all });

use exports::skillhost::skill::tools::{Attachment, Context, Description, Failure, Guest, Output};
use skillhost::skill::logging::{Level, log};
use skillhost::skill::types::{Annotations, Tool};

struct Bench;

export!(Bench);

impl Guest for Bench {
    fn describe() -> Description {
        let names = [
            "echo", "calls", "matrix", "hash", "sort", "strings", "spin", "lookups", "chase",
            "ask", "tell", "wait", "fill",
        ];
        Description {
            name: "bench-guest".into(),
            version: "0.1.0".into(),
            description: "The guest of the benchmarks.".into(),
            tools: names.into_iter().map(tool).collect(),
        }
    }

    fn execute(
        tool: String,
        input: String,
        _attachments: Vec<Attachment>,
        _context: Context,
    ) -> Result<Output, Failure> {
        // A kernel's input is `{"n":123}`.
        let n = || {
            let digits: String = input.chars().filter(char::is_ascii_digit).collect();
            digits.parse::<u64>().unwrap_or(1)
        };
        let number = match tool.as_str() {
            "echo" => {
                return Ok(Output {
                    json: input,
                    attachments: Vec::new(),
                });
            }
            "calls" => fibonacci(n()),
            "matrix" => matrix(n()),
            "hash" => hash(n()),
            "sort" => sort(n()),
            "strings" => strings(n()),
            "spin" => loop {
                std::hint::black_box(());
            },
            "lookups" => lookups(n()),
            "chase" => chase(n()),
            "ask" => loop {
                std::hint::black_box(std::time::Instant::now());
            },
            "tell" => {
                let text = "x".repeat(n() as usize);
                loop {
                    log(Level::Info, &text);
                }
            }
            "wait" => {
                std::thread::sleep(std::time::Duration::from_secs(n()));
                0
            }
            "fill" => fill(n()),
            _ => return Err(Failure::UnknownTool),
        };
        Ok(Output {
            json: format!("{{\"result\":{number}}}"),
            attachments: Vec::new(),
        })
    }
}

fn tool(name: &str) -> Tool {
    Tool {
        name: name.into(),
        title: None,
        description: "See the source.".into(),
        input_schema: r#"{"type":"object"}"#.into(),
        output_schema: None,
        annotations: Annotations {
            read_only: Some(true),
            destructive: None,
            idempotent: None,
            open_world: None,
        },
    }
}

/// Recursive calls.
fn fibonacci(n: u64) -> u64 {
    if n < 2 {
        n
    } else {
        fibonacci(n - 1) + fibonacci(n - 2)
    }
}

/// A tight numeric loop: the product of two `n` by `n` matrices.
fn matrix(n: u64) -> u64 {
    let n = n as usize;
    let a: Vec<f64> = (0..n * n).map(|i| (i % 7) as f64).collect();
    let b: Vec<f64> = (0..n * n).map(|i| (i % 5) as f64).collect();
    let mut c = vec![0.0; n * n];
    for i in 0..n {
        for j in 0..n {
            let mut sum = 0.0;
            for k in 0..n {
                sum += a[i * n + k] * b[k * n + j];
            }
            c[i * n + j] = sum;
        }
    }
    c.iter().sum::<f64>() as u64
}

/// FNV-1a over a megabyte, `n` times.
fn hash(n: u64) -> u64 {
    let bytes: Vec<u8> = (0..1_u32 << 20).map(|i| i as u8).collect();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for _ in 0..n {
        for byte in &bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}

/// Sorts `n` pseudo-random numbers.
fn sort(n: u64) -> u64 {
    let mut state = 88_172_645_463_325_252_u64;
    let mut numbers: Vec<u64> = (0..n)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        })
        .collect();
    numbers.sort_unstable();
    numbers[numbers.len() / 2]
}

/// Builds and takes apart `n` small strings.
fn strings(n: u64) -> u64 {
    let mut text = String::new();
    for i in 0..n {
        text.push_str(&format!("item-{i},"));
    }
    text.split(',').filter(|item| item.ends_with('7')).count() as u64
}

/// Reads from random places in `n` MiB, a power of two, each of which follows from what was read before: as
/// code does that looks things up in a table.
fn lookups(n: u64) -> u64 {
    let bytes = vec![1_u8; (n << 20) as usize];
    let mut place = 1_usize;
    loop {
        let step = bytes[place & (bytes.len() - 1)];
        place = place.wrapping_mul(1_664_525).wrapping_add(step.into());
        std::hint::black_box(());
    }
}

/// Reads from random places in `n` MiB, a power of two: as slow as instructions get, as each waits
/// for the memory and for the one before, and hardly anything comes in between.
fn chase(n: u64) -> u64 {
    const LINE: usize = 64 / size_of::<usize>();
    let lines = (n << 20) as usize / 64;
    let mut memory = vec![[0_usize; LINE]; lines];
    let first = memory.as_ptr() as usize;
    // Each has the address of another, and they come to all of them: a linear congruential generator of full period.
    let mut at = 0_usize;
    for _ in 0..lines {
        let next = at.wrapping_mul(1_664_525).wrapping_add(1_013_904_223) & (lines - 1);
        memory[at][0] = first + next * 64;
        at = next;
    }
    // SAFETY: it is the address of the first number of a line, and such an address is what stands there.
    let step = |place: usize| unsafe { (place as *const usize).read_volatile() };
    let steps = |place| step(step(step(step(step(step(step(step(place))))))));
    let mut place = first;
    loop {
        place = steps(steps(steps(steps(steps(steps(steps(steps(place))))))));
        std::hint::black_box(&memory);
    }
}

/// Fills `n` MiB with one bulk instruction, again and again.
fn fill(n: u64) -> u64 {
    let mut bytes = vec![0_u8; (n << 20) as usize];
    let mut value = 1_u8;
    loop {
        bytes.fill(std::hint::black_box(value));
        std::hint::black_box(&mut bytes);
        value = value.wrapping_add(1);
    }
}
