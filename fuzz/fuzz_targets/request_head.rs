#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pushv::testing::fuzzing::request_head(input));
