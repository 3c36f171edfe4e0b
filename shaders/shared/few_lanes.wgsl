
// A vector of a software adapter: workgroups of more would wait for each other at barriers.
const LANES = 8u;
