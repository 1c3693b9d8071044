// Package storageflags holds the flags of the storage whose values have series filters in them. The storage takes filters as
// they travel in searches; only the query language can read their text.
package storageflags
