package s3api

import (
	"encoding/json"
	"net/http"

	"cairn"
)

// publicAccessBlock is a bucket's four switches against public access.
type publicAccessBlock struct {
	BlockPublicAcls       bool // refuses requests that would set a public list
	IgnorePublicAcls      bool // public grants give nothing
	BlockPublicPolicy     bool // refuses a public policy
	RestrictPublicBuckets bool // a public policy lets in the owner's account only
}

func (c *call) putPublicAccessBlock() error {
	doc, release, err := c.readDocument(maxSmallDocument)
	if err != nil {
		return err
	}
	defer release()
	var d publicAccessBlock
	if err := decodeXML(doc, "PublicAccessBlockConfiguration", &d); err != nil {
		return err
	}
	stored, err := json.Marshal(d)
	if err != nil {
		return err
	}
	if err := c.changeAccess(func(configs cairn.Configs) { configs[blockConfig] = string(stored) }, nil); err != nil {
		return err
	}
	return c.noContent(http.StatusOK)
}

func (c *call) getPublicAccessBlock() error {
	a, err := c.srv.access(c.r.Context(), c.bucket)
	if err != nil {
		return err
	}
	if _, ok := a.row.Configs[blockConfig]; !ok {
		return missing("NoSuchPublicAccessBlockConfiguration", "The public access block configuration was not found").
			with("", field{"BucketName", c.bucket})
	}
	return c.render(func(b []byte) []byte {
		b = append(b, `<PublicAccessBlockConfiguration xmlns="`+xmlNamespace+`">`...)
		b = appendBool(b, "BlockPublicAcls", a.block.BlockPublicAcls)
		b = appendBool(b, "IgnorePublicAcls", a.block.IgnorePublicAcls)
		b = appendBool(b, "BlockPublicPolicy", a.block.BlockPublicPolicy)
		b = appendBool(b, "RestrictPublicBuckets", a.block.RestrictPublicBuckets)
		return append(b, "</PublicAccessBlockConfiguration>"...)
	})
}

func (c *call) deletePublicAccessBlock() error {
	if err := c.changeAccess(func(configs cairn.Configs) { delete(configs, blockConfig) }, nil); err != nil {
		return err
	}
	return c.noContent(http.StatusNoContent)
}
