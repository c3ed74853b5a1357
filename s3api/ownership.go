package s3api

import (
	"net/http"

	"cairn"
)

type ownershipDoc struct {
	Rule []struct{ ObjectOwnership string }
}

func validOwnership(s string) bool {
	return s == ownerEnforced || s == ownerPreferred || s == objectWriter
}

// putOwnershipControls says who owns what is written into the bucket. Lists that give others anything must go before they
// are switched off, since they would silently end to count.
func (c *call) putOwnershipControls() error {
	doc, release, err := c.readDocument(maxSmallDocument)
	if err != nil {
		return err
	}
	defer release()
	var d ownershipDoc
	if err := decodeXML(doc, "OwnershipControls", &d); err != nil {
		return err
	}
	if len(d.Rule) != 1 || !validOwnership(d.Rule[0].ObjectOwnership) {
		return errMalformedXML
	}
	want := d.Rule[0].ObjectOwnership
	err = c.changeAccess(func(configs cairn.Configs) { configs[ownershipConfig] = want }, func(a *access) error {
		if want == ownerEnforced && a.aclsEnabled() && len(a.acl.Grants) != 1 {
			return errInvalidACLOwnership
		}
		return nil
	})
	if err != nil {
		return err
	}
	return c.noContent(http.StatusOK)
}

var errInvalidACLOwnership = newError(400, "InvalidBucketAclWithObjectOwnership",
	"Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting")

func (c *call) getOwnershipControls() error {
	a, err := c.srv.access(c.r.Context(), c.bucket)
	if err != nil {
		return err
	}
	if s, set := a.row.Configs[ownershipConfig]; set && s == noOwnership || !set && a.ownership != ownerEnforced {
		return missing("OwnershipControlsNotFoundError", "The bucket ownership controls were not found").
			with("", field{"BucketName", c.bucket})
	}
	return c.render(func(b []byte) []byte {
		b = append(b, `<OwnershipControls xmlns="`+xmlNamespace+`"><Rule>`...)
		b = appendElement(b, "ObjectOwnership", a.ownership)
		return append(b, "</Rule></OwnershipControls>"...)
	})
}

func (c *call) deleteOwnershipControls() error {
	if err := c.changeAccess(func(configs cairn.Configs) { configs[ownershipConfig] = noOwnership }, nil); err != nil {
		return err
	}
	return c.noContent(http.StatusNoContent)
}
