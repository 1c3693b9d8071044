// Package invariants holds the assertions which stay on in production. A
// failed assertion is a programmer error: it panics, since going on could
// damage data. Operating errors (disk, network, input) are returned instead.
package invariants
