//! Kernels that are compiled once for each generation of vector instructions, such as AVX2 or
//! AVX-512, and the choice between the generations.
//!
//! The compiler uses the instructions of a generation only in functions that are marked with its
//! target features. So the whole code of a [`Kernel`] has to be inlined into a function that is
//! marked. This is ensured by one rule: `run`, and every function of this crate that it calls, is
//! `#[inline(always)]` and takes neither a closure nor a function as an argument. Closures and
//! functions that are passed as values are compiled as separate functions, without the target
//! features.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use pulp::{NullaryFnOnce, Scalar128b, Simd};

/// A computation on rows of numbers, written once for vectors of any width.
pub(crate) trait Kernel {
    /// Runs the computation. Must be `#[inline(always)]`.
    fn run<V: Vectors>(self, simd: V);
}

/// The operations of one generation of vector instructions.
pub(crate) trait Vectors: Simd {
    /// Computes `a * b + c`, in one instruction if the processor has one for it, otherwise as a
    /// product and a sum. The library function `fma` would be much slower, because it is computed
    /// in software on processors without the instruction.
    fn multiply_add(self, a: Self::f32s, b: Self::f32s, c: Self::f32s) -> Self::f32s;
}

/// A generation of vector instructions that this processor has.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Level {
    /// 16 numbers at once.
    #[cfg(target_arch = "x86_64")]
    Avx512(pulp::x86::V4),
    /// 8 numbers at once.
    #[cfg(target_arch = "x86_64")]
    Avx2(pulp::x86::V3),
    /// 4 numbers at once.
    #[cfg(target_arch = "aarch64")]
    Neon(pulp::aarch64::Neon),
    /// The instructions that every processor of the architecture has.
    Plain,
}

/// The widest generation that this processor has and [`limit_lanes`] allows.
static BEST: LazyLock<Level> = LazyLock::new(|| {
    let most = MAX_LANES.load(Ordering::Relaxed);
    let fits = |level: &Level| level.lanes() <= most;
    Level::available().into_iter().find(fits).unwrap_or(Level::Plain)
});

/// Most numbers per vector. Only benchmarks set it, before anything is computed. Relaxed is enough,
/// because it is read only once, when [`BEST`] is initialised.
static MAX_LANES: AtomicUsize = AtomicUsize::new(usize::MAX);

impl Level {
    /// Returns all generations that this processor has, the widest first.
    pub(crate) fn available() -> Vec<Self> {
        vec![
            #[cfg(target_arch = "x86_64")]
            pulp::x86::V4::try_new().map(Self::Avx512),
            #[cfg(target_arch = "x86_64")]
            pulp::x86::V3::try_new().map(Self::Avx2),
            #[cfg(target_arch = "aarch64")]
            pulp::aarch64::Neon::try_new().map(Self::Neon),
            Some(Self::Plain),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Returns the widest generation that this processor has and [`limit_lanes`] allows.
    pub(crate) fn best() -> Self {
        *BEST
    }

    /// Returns the number of `f32` per vector.
    pub(crate) const fn lanes(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => 16,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => 8,
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => 4,
            Self::Plain => 4,
        }
    }

    /// Runs `kernel` in a function that is compiled for this generation.
    pub(crate) fn run<K: Kernel>(self, kernel: K) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(simd) => simd.vectorize(Run { kernel, simd }),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(simd) => simd.vectorize(Run { kernel, simd }),
            #[cfg(target_arch = "aarch64")]
            Self::Neon(simd) => simd.vectorize(Run { kernel, simd }),
            Self::Plain => kernel.run(Scalar128b),
        }
    }
}

/// Returns the name of the vector instructions that the encoder uses on this processor.
#[must_use]
pub fn instructions() -> &'static str {
    match Level::best() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512(_) => "AVX-512",
        #[cfg(target_arch = "x86_64")]
        Level::Avx2(_) => "AVX2",
        #[cfg(target_arch = "aarch64")]
        Level::Neon(_) => "NEON",
        Level::Plain => "baseline",
    }
}

/// Limits vectors to `most` numbers, so that a benchmark can time narrower ones. Has no effect
/// after the first computation.
pub fn limit_lanes(most: usize) {
    MAX_LANES.store(most, Ordering::Relaxed);
}

/// Runs `kernel` in a function that is compiled for the generation that [`Level::best`] returns.
pub(crate) fn run<K: Kernel>(kernel: K) {
    Level::best().run(kernel);
}

/// A kernel and the vector instructions it runs with, as the callable that `pulp` inlines into a
/// function marked with the target features.
struct Run<K, V> {
    kernel: K,
    simd: V,
}

impl<K: Kernel, V: Vectors> NullaryFnOnce for Run<K, V> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.kernel.run(self.simd);
    }
}

#[cfg(target_arch = "x86_64")]
impl Vectors for pulp::x86::V4 {
    #[inline(always)]
    fn multiply_add(self, a: Self::f32s, b: Self::f32s, c: Self::f32s) -> Self::f32s {
        self.mul_add_e_f32s(a, b, c)
    }
}

#[cfg(target_arch = "x86_64")]
impl Vectors for pulp::x86::V3 {
    #[inline(always)]
    fn multiply_add(self, a: Self::f32s, b: Self::f32s, c: Self::f32s) -> Self::f32s {
        self.mul_add_e_f32s(a, b, c)
    }
}

#[cfg(target_arch = "aarch64")]
impl Vectors for pulp::aarch64::Neon {
    #[inline(always)]
    fn multiply_add(self, a: Self::f32s, b: Self::f32s, c: Self::f32s) -> Self::f32s {
        self.mul_add_e_f32s(a, b, c)
    }
}

impl Vectors for Scalar128b {
    #[inline(always)]
    fn multiply_add(self, a: Self::f32s, b: Self::f32s, c: Self::f32s) -> Self::f32s {
        self.add_f32s(self.mul_f32s(a, b), c)
    }
}

/// Splits a row into whole vectors and the numbers after the last one.
#[inline(always)]
pub(crate) fn split<V: Vectors>(row: &[f32]) -> (&[V::f32s], &[f32]) {
    V::as_simd_f32s(row)
}

/// Does the same as [`split`], for writing.
#[inline(always)]
pub(crate) fn split_mut<V: Vectors>(row: &mut [f32]) -> (&mut [V::f32s], &mut [f32]) {
    V::as_mut_simd_f32s(row)
}

/// Loads `rest`, the numbers after the last whole vector, as a vector with `fill` in the lanes that
/// are left.
#[inline(always)]
pub(crate) fn load_rest<V: Vectors>(simd: V, rest: &[f32], fill: f32) -> V::f32s {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "`rest` is shorter than one vector, so its length fits into u32"
    )]
    let mask = simd.mask_between_m32s(0, rest.len() as u32);
    simd.select_f32s(mask.mask(), simd.partial_load_f32s(rest), simd.splat_f32s(fill))
}
