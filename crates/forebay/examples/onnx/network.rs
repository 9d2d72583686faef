//! The network of `model/iris.onnx`, as Burn's generator for ONNX has written it; its weights are `model/iris.bpk`.
//!
//! The generator brings a second Burn, so it ran once, in the build script of a crate with `burn-onnx` 0.22 as its
//! build-dependency, which writes both files into `$OUT_DIR/model`:
//!
//! ```ignore
//! burn_onnx::ModelGen::new()
//!     .input("model/iris.onnx")
//!     .out_dir("model/")
//!     .load_strategy(burn_onnx::LoadStrategy::Embedded)
//!     .run_from_script();
//! ```
//!
//! Only the path of the weights was changed.

use burn::prelude::*;
use burn::tensor::Bytes;
use burn_store::BurnpackStore;
use burn_store::ModuleSnapshot;


#[derive(Module, Debug)]
pub struct Model {
    constant1: burn::module::Param<Tensor<2>>,
    constant2: burn::module::Param<Tensor<1>>,
    constant3: burn::module::Param<Tensor<2>>,
    constant4: burn::module::Param<Tensor<1>>,
    #[module(skip)]
    device: Device,
}


#[repr(C, align(256))]
struct Aligned256([u8; 1292usize]);
static ALIGNED_DATA: Aligned256 = Aligned256(
    *include_bytes!(
        "model/iris.bpk"
    ),
);
static EMBEDDED_STATES: &[u8] = &ALIGNED_DATA.0;

impl Default for Model {
    fn default() -> Self {
        Self::from_embedded(&Default::default())
    }
}

impl Model {
    /// Load model weights from embedded burnpack data (zero-copy at store level).
    ///
    /// The embedded data stays in the binary's .rodata section without heap allocation.
    /// Tensor data is sliced directly from the static bytes.
    ///
    /// Note: Some backends may still copy data internally.
    /// See <https://github.com/tracel-ai/burn/issues/4153> for true backend zero-copy.
    ///
    /// See <https://github.com/tracel-ai/burn/issues/4123>
    pub fn from_embedded(device: &Device) -> Self {
        let mut model = Self::new(device);
        let mut store = BurnpackStore::from_static(EMBEDDED_STATES);
        model
            .load_from(&mut store)
            .unwrap_or_else(|e| {
                panic!(
                    "Failed to load embedded burnpack (built from {}): {e}",
                    "model/iris.bpk"
                )
            });
        model
    }

    /// Load model weights from in-memory bytes.
    ///
    /// The bytes must be the contents of a `.bpk` file.
    pub fn from_bytes(bytes: Bytes, device: &Device) -> Self {
        let mut model = Self::new(device);
        let mut store = BurnpackStore::from_bytes(Some(bytes));
        model
            .load_from(&mut store)
            .unwrap_or_else(|e| panic!("Failed to load burnpack bytes: {e}"));
        model
    }
}

impl Model {
    #[allow(unused_variables)]
    pub fn new(device: &Device) -> Self {
        let constant1: burn::module::Param<Tensor<2>> = burn::module::Param::uninitialized(
            burn::module::ParamId::new(),
            move |device, _require_grad| Tensor::<
                2,
            >::zeros([4, 16], (device, burn::tensor::DType::F32)),
            device.clone(),
            false,
            [4, 16].into(),
        );
        let constant2: burn::module::Param<Tensor<1>> = burn::module::Param::uninitialized(
            burn::module::ParamId::new(),
            move |device, _require_grad| Tensor::<
                1,
            >::zeros([16], (device, burn::tensor::DType::F32)),
            device.clone(),
            false,
            [16].into(),
        );
        let constant3: burn::module::Param<Tensor<2>> = burn::module::Param::uninitialized(
            burn::module::ParamId::new(),
            move |device, _require_grad| Tensor::<
                2,
            >::zeros([16, 3], (device, burn::tensor::DType::F32)),
            device.clone(),
            false,
            [16, 3].into(),
        );
        let constant4: burn::module::Param<Tensor<1>> = burn::module::Param::uninitialized(
            burn::module::ParamId::new(),
            move |device, _require_grad| Tensor::<
                1,
            >::zeros([3], (device, burn::tensor::DType::F32)),
            device.clone(),
            false,
            [3].into(),
        );
        Self {
            constant1,
            constant2,
            constant3,
            constant4,
            device: device.clone(),
        }
    }

    #[allow(clippy::let_and_return, clippy::approx_constant)]
    pub fn forward(&self, measures: Tensor<2>) -> Tensor<2> {
        let constant1_out1 = self.constant1.val();
        let constant2_out1 = self.constant2.val();
        let constant3_out1 = self.constant3.val();
        let constant4_out1 = self.constant4.val();
        let gemm1_out1 = measures.matmul(constant1_out1) + constant2_out1.unsqueeze();
        let relu1_out1 = burn::tensor::activation::relu(gemm1_out1);
        let gemm2_out1 = relu1_out1.matmul(constant3_out1) + constant4_out1.unsqueeze();
        let softmax1_out1 = burn::tensor::activation::softmax(gemm2_out1, 1);
        softmax1_out1
    }
}
