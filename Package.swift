// swift-tools-version: 6.0
// swiftmax: one Swift source, one object per instruction set, one C ABI.
//
// `make` builds through this file and then links libswiftmax.so (see the Makefile). With
// SWIFTMAX_UNIT_TESTS=1 the same sources build as ordinary Swift, so that Swift Testing can reach
// the kernels: Embedded Swift targets cannot be linked into a test runner.
import PackageDescription

/// The instruction sets, oldest first: the linker keeps the first of two equal weak symbols.
/// docs/adding.md has what a new row needs besides.
struct InstructionSet {
  let name: String
  let march: String
  let architecture: String
  /// The oldest one is there to give the same bits, not for speed.
  var optimization = "-Ounchecked"
}

let instructionSets = [
  InstructionSet(name: "V2", march: "x86-64-v2", architecture: "x86_64", optimization: "-Osize"),
  InstructionSet(name: "V3", march: "x86-64-v3", architecture: "x86_64"),
  InstructionSet(name: "V4", march: "x86-64-v4", architecture: "x86_64"),
  InstructionSet(name: "NEON", march: "armv8-a", architecture: "aarch64"),
]

let unitTests = Context.environment["SWIFTMAX_UNIT_TESTS"] != nil
let architecture = Context.environment["SWIFTMAX_ARCH"] ?? "x86_64"
let built = instructionSets.filter { $0.architecture == architecture }

/// Embedded Swift: no runtime, no metadata; a generic left unspecialised is a compile error.
let embedded: [SwiftSetting] = [
  .enableExperimentalFeature("Embedded"), .enableExperimentalFeature("Extern"),
  // One section a function, so that the linker can leave out what is not called. And no hash of the
  // module, which changes with the folder that it is built in.
  .unsafeFlags(["-Xfrontend", "-disable-incremental-llvm-codegen"]),
  .unsafeFlags([
    "-wmo", "-Xfrontend", "-disable-stack-protector", "-Xfrontend", "-function-sections",
  ]),
]
let ordinary: [SwiftSetting] = [.enableExperimentalFeature("Extern"), .unsafeFlags(["-O"])]
let core = unitTests ? ordinary : embedded

func kernels(_ isa: InstructionSet) -> Target {
  .target(
    name: "Kernels\(isa.name)", dependencies: ["Kernels", "CSupport", "CSwiftmax"],
    swiftSettings: core + [.unsafeFlags([isa.optimization, "-Xcc", "-march=\(isa.march)"])])
}

let cFlags: [CSetting] = [
  .unsafeFlags([
    "-std=c11", "-O2", "-fvisibility=hidden", "-Wall", "-Wextra", "-fstack-protector-strong",
    // Descriptors instead of __tls_get_addr, which would make the dynamic loader a needed library.
    "-mtls-dialect=gnu2",
  ])
]

/// Tests/swift: the kernels from inside, and the ABI from outside, through the shared library that
/// C and Python load.
let shared = Context.packageDirectory + "/build"
let tests: [Target] = [
  .testTarget(
    name: "KernelTests",
    dependencies: ["Kernels", "CSupport", "CSwiftmax"]
      + built.map { .target(name: "Kernels\($0.name)") },
    path: "Tests/swift/KernelTests"),
  .testTarget(
    name: "AbiTests", dependencies: ["CSwiftmax"], path: "Tests/swift/AbiTests",
    linkerSettings: [
      .unsafeFlags(["-L", shared, "-lswiftmax", "-Xlinker", "-rpath", "-Xlinker", shared])
    ]),
]

let package = Package(
  name: "swiftmax",
  products: [.library(name: "SwiftmaxObjects", type: .static, targets: ["Swiftmax"])],
  targets: [
    .systemLibrary(name: "CSwiftmax", path: "Include"),
    .target(name: "CSupport", dependencies: ["CSwiftmax"], cSettings: cFlags),
    .target(name: "Kernels", dependencies: ["CSupport", "CSwiftmax"], swiftSettings: core),
    .target(
      name: "Swiftmax", dependencies: ["CSupport", "CSwiftmax"],
      // Checks and sentences: nothing here loops over data.
      swiftSettings: core + (unitTests ? [] : [.unsafeFlags(["-Osize"])])),
  ] + built.map(kernels) + (unitTests ? tests : [])
)
