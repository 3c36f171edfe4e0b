// Sizes of the network, set when a pipeline is made. The batch size is a run-time value, so training and evaluation share pipelines.
override P: u32;            // numbers; "=" is token P
override D_MODEL: u32;
override N_HEADS: u32;
override D_HEAD: u32;       // D_MODEL / N_HEADS
override D_MLP: u32;
override D_VOCAB_OUT: u32;
