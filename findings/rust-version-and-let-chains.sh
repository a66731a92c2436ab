#!/bin/sh
# A crate that says rust-version = "1.85" and uses a let chain: Rust 1.85 refuses it (let chains are stable from
# 1.88 on), and neither a newer cargo nor its clippy, told to deny every warning and clippy::incompatible_msrv
# besides, has a word to say. The promise is looked up for functions of the standard library, not for the
# language. Wants Debian 12 with its package lists, and any cargo from 1.88 on with clippy.
set -eu

version=1.85.0+dfsg3-1~deb12u3
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
cd "$folder"

apt-get -o APT::Sandbox::User=root download -qq \
    rustc-web=$version libstd-rust-web-1.85=$version libstd-rust-web-dev=$version libllvm19 libz3-4 libxml2 libedit2
for package in *.deb; do
    dpkg-deb -x "$package" old
done
old="env LD_LIBRARY_PATH=$folder/old/usr/lib:$folder/old/usr/lib/x86_64-linux-gnu $folder/old/usr/bin/rustc"

mkdir -p crate/src
cat >crate/Cargo.toml <<'CRATE'
[package]
name = "chained"
version = "0.1.0"
edition = "2024"
rust-version = "1.85"
CRATE
cat >crate/src/lib.rs <<'CRATE'
//! A let chain.

/// The number, if it is wanted.
pub fn wanted(number: Option<u8>, wanted: bool) -> u8 {
    if let Some(number) = number && wanted { number } else { 0 }
}
CRATE

echo "== $(cargo --version) and its clippy: not a word"
(cd crate && cargo clippy --offline --quiet -- -D warnings -D clippy::incompatible_msrv)

echo "== $($old --version): an error"
if $old --crate-type lib --edition 2024 --emit metadata -o lib.rmeta crate/src/lib.rs 2>said; then
    echo "it builds there now"
    exit 1
fi
grep 'E0658.*let. expressions in this position are unstable' said
