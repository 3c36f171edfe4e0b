// Sizes of the network and of the batch, set when a pipeline is made.
override P: u32;            // numbers; "=" is token P
override D_MODEL: u32;
override N_HEADS: u32;
override D_HEAD: u32;       // D_MODEL / N_HEADS
override D_MLP: u32;
override D_VOCAB_OUT: u32;
override ROWS: u32;         // rows that the batch has room for; a model uses n_rows[model] of them
