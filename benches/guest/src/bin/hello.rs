//! A command that says hello, for comparison with other programs that run commands.

fn main() {
    println!("hello");
}
