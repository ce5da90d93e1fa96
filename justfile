# The commands of this repository. `just` lists them.

static_target := "x86_64-unknown-linux-musl"

[private]
default:
    @just --list --unsorted

# Show the program at work, against a control plane on loopback
demo:
    cargo demo

# Run the tests whose names contain NAME; without the real clients the tests that need them are skipped
test *NAME:
    cargo test --workspace --locked -- {{ NAME }}

# Install the real clients and servers, then run the tests with them
test-all *NAME:
    tests/run {{ NAME }}

# Format the code
fmt:
    cargo fmt --all

# Check the code with clippy; a warning is an error
lint:
    cargo lint

# Build the documentation of the code, private items included
doc:
    RUSTDOCFLAGS='-D warnings' cargo docs

# Check formatting, spelling, licences, lints and documentation, and run the tests, all without the real clients
check: && lint doc test
    cargo fmt --all --check
    PATH="$PATH:$(.ci/tools)" typos
    PATH="$PATH:$(.ci/tools)" cargo deny --all-features --locked check licenses bans sources

# Do what CI does, which needs Debian and root
ci:
    .ci/run

# Build the static program, which is the release
static:
    rustup target add {{ static_target }}
    cargo build --release --locked --target {{ static_target }}

# Count the instructions of a hit and compare them with their limits
count:
    cargo bench --locked --bench processes -- check

# Measure whole processes: hit, miss, storm and scale, or the named parts alone
bench *PARTS:
    cargo bench --locked --bench processes -- {{ PARTS }}

# Build the Debian package
package:
    make package

# Install the program, its names, completions and man pages below PREFIX
install PREFIX="/usr/local":
    make install PREFIX={{ PREFIX }}
