// Package objects has what stores of objects behind HTTP have in common: names in a bucket, sending in parts, reading on after a connection
// has broken, connections which are given up when they are silent.
//
// It knows no service. Buffers of parts belong to the Buffers they come from; a part is valid during the call it is handed to.
//
// Invariants:
//
//  1. A body is read once, from its start to its end; what is sent again comes from memory.
//  2. Memory is a part for each object under way, whatever the size of the object.
//  3. A reader returns the bytes of one version of an object, all of them and in order, or an error.
//  4. Nothing reads the memory of a part after the call it was handed to, not even a request which has been answered before it was sent.
//  5. Nothing waits longer than the silence that is allowed, nor tries more often than the attempts that are allowed without getting on.
package objects
