// Command manifests renders kustomizations into files: manifests OUT DIR... writes OUT/<last part of DIR>.yaml for each.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"vmcluster/deployment/tests/render"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: manifests OUT DIR...")
		os.Exit(2)
	}
	if err := write(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func write(out string, dirs []string) error {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	for _, dir := range dirs {
		text, err := render.Kustomize(dir)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(out, filepath.Base(dir)+".yaml"), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}
