// Package bytesutil holds buffer pools and the only unsafe casts of the
// repository.
//
// Ownership: a buffer taken from a Pool belongs to the caller until it is put
// back; nobody may keep a slice of it after that.
package bytesutil
