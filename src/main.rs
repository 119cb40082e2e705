//! The `ringmq` binary.
use std::sync::Arc;
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
fn main() {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let args: Vec<String> = std::env::args().collect();
    let mut config = ringmq::config::Config::default();
    let mut shards = 2;
    for pair in args.windows(2) {
        if pair[0] == "--listen" {
            config.listeners = vec![ringmq::config::Listener::at(pair[1].parse().unwrap())];
        }
        if pair[0] == "--shards" {
            shards = pair[1].parse().unwrap();
        }
    }
    let cpus: Vec<usize> = (0..shards).map(|i| i % 2).collect();
    let running = ringmq::runtime::launch::launch(&Arc::new(config), &cpus).unwrap();
    for l in &running.listeners {
        println!("listening on {}", l.address);
    }
    let mut signals = signal_hook::iterator::Signals::new([15, 2]).unwrap();
    signals.forever().next();
    running.drain();
    running.join().unwrap();
}
