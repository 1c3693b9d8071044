// Package archtest holds the tests which enforce the rules of the repository:
// who may import whom, what a binary may link, the size of functions and files, package
// documentation, and the absence of flags, init functions and mutable package
// variables under lib. It has no other code.
package archtest
