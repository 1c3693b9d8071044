package invariants

import "fmt"

// Check panics with the formatted message unless ok holds. Arguments must be
// cheap to compute.
func Check(ok bool, format string, args ...any) {
	if !ok {
		panic(fmt.Sprintf("broken invariant: "+format, args...))
	}
}
