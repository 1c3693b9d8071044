// Package render turns kustomizations into manifests, as `kubectl kustomize` does.
package render

import (
	"fmt"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// Kustomize renders the kustomization of a directory.
func Kustomize(dir string) ([]byte, error) {
	rendered, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		return nil, fmt.Errorf("cannot render %q: %w", dir, err)
	}
	return rendered.AsYaml()
}
