// Package producers lets the official clients of others write to the built binaries, and compares what can be read with what was written.
// It is a module of its own, so that nothing of these clients is among the dependencies of the product.
//
// Invariants:
//
//  1. Nothing is sent that our own code has made: each body comes from the client of those who have defined its format.
//  2. What is expected is made from what the client was given, not from what it has sent.
package producers
