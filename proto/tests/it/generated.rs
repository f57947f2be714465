//! `src/codec/generated.rs` is what `proto/lakesync.proto` says.

use std::path::Path;

use prost_build::Module;

fn generate(root: &Path) -> String {
    let descriptors = protox::compile(["lakesync.proto"], [root.join("proto")]).unwrap();
    let requests = descriptors.file.into_iter().map(|file| {
        let module = Module::from_protobuf_package_name(file.package());
        (module, file)
    });
    let mut modules = prost_build::Config::new()
        // Maps are sorted, so that equal messages have equal bytes.
        .btree_map(["."])
        .generate(requests.collect())
        .unwrap();
    let module = Module::from_protobuf_package_name("lakesync.v1");
    modules.remove(&module).unwrap()
}

#[test]
fn the_committed_code_is_what_the_proto_file_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let committed = root.join("src/codec/generated.rs");
    let expected = generate(root);
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::write(&committed, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&committed).unwrap();
    assert!(
        found == expected,
        "src/codec/generated.rs is not what proto/lakesync.proto says. Write it anew with\n\n    \
         UPDATE_GENERATED=1 cargo test -p lakesync-proto --test it generated\n"
    );
}
