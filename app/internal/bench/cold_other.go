//go:build !linux

package bench

import (
	"errors"
	"os"
)

func syncDisks() {}

func dropPages(*os.File) error { return errors.ErrUnsupported }
