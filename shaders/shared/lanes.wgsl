
const LANES = 64u;
