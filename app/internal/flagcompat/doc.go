// Package flagcompat registers the flags of the system we replace which this
// version does not implement, so that existing manifests and scripts start
// unchanged, or get a clear answer why not.
//
// Flags that tune something which does not exist here are accepted, and
// logged once as having no effect. Flags that ask for a behaviour which is missing are refused
// at start, unless their value asks for nothing.
package flagcompat
