package s3api

import (
	"errors"
	"net/http"

	"cairn"
	"cairn/iam"
)

var (
	errMalformedPolicy = newError(400, "MalformedPolicy", "Policy has invalid resource")
	errNoBucketPolicy  = missing("NoSuchBucketPolicy", "The bucket policy does not exist")
)

// putBucketPolicy stores a policy as it was sent, once it is understood to the last element. Nobody may publish a bucket by it
// where public policies are blocked.
func (c *call) putBucketPolicy() error {
	doc, release, err := c.readDocument(maxSmallDocument)
	if err != nil {
		return err
	}
	defer release()
	p, err := iam.ParseBucketPolicy(doc, c.bucket)
	if err == nil {
		err = c.srv.cfg.Identities.CheckPrincipals(p)
	}
	if err != nil {
		return malformedPolicy(err)
	}
	err = c.changeAccess(func(configs cairn.Configs) { configs[policyConfig] = p.String() }, func(a *access) error {
		if a.block.BlockPublicPolicy && p.Public() {
			return errAccessDenied
		}
		return nil
	})
	if err != nil {
		return err
	}
	return c.noContent(http.StatusNoContent)
}

// malformedPolicy turns what is wrong with a policy into S3's error.
func malformedPolicy(err error) error {
	var wrong *iam.PolicyError
	if !errors.As(err, &wrong) {
		return err
	}
	return errMalformedPolicy.with(wrong.Detail, field{"Detail", wrong.Field})
}

func (c *call) getBucketPolicy() error {
	a, err := c.srv.access(c.r.Context(), c.bucket)
	if err != nil {
		return err
	}
	if a.policy == nil {
		return errNoBucketPolicy.with("", field{"BucketName", c.bucket})
	}
	c.set("Content-Type", "application/json")
	c.set("Content-Length", itoa(int64(len(a.policy.String()))))
	c.WriteHeader(http.StatusOK)
	_, err = c.Write([]byte(a.policy.String()))
	return err
}

func (c *call) deleteBucketPolicy() error {
	if err := c.changeAccess(func(configs cairn.Configs) { delete(configs, policyConfig) }, nil); err != nil {
		return err
	}
	return c.noContent(http.StatusNoContent)
}

// getBucketPolicyStatus tells whether everybody is let in, by the policy or by the access control list.
func (c *call) getBucketPolicyStatus() error {
	a, err := c.srv.access(c.r.Context(), c.bucket)
	if err != nil {
		return err
	}
	public := a.policy.Public() && !a.block.RestrictPublicBuckets || a.acl.Public() && !a.block.IgnorePublicAcls
	return c.render(func(b []byte) []byte {
		b = append(b, `<PolicyStatus xmlns="`+xmlNamespace+`">`...)
		b = appendBool(b, "IsPublic", public)
		return append(b, "</PolicyStatus>"...)
	})
}

// changeAccess changes what a bucket says about access in one commit, if check, asked with the bucket as it is at that commit, agrees.
func (c *call) changeAccess(change func(cairn.Configs), check func(*access) error) error {
	_, err := c.srv.cfg.Objects.UpdateBucket(c.r.Context(), c.bucket, func(b *cairn.Bucket) error {
		if check != nil {
			a, err := readAccess(*b, c.srv.cfg.ObjectOwnership)
			if err == nil {
				err = check(a)
			}
			if err != nil {
				return err
			}
		}
		configs := make(cairn.Configs, len(b.Configs)+1)
		for k, v := range b.Configs {
			configs[k] = v
		}
		change(configs)
		b.Configs = configs
		return nil
	})
	c.srv.accesses.forget(c.bucket)
	return err
}

// accessOperations are those about who may do what in a bucket.
func accessOperations() []operation {
	return []operation{
		{name: "GetBucketPolicyStatus", action: "s3:GetBucketPolicyStatus", level: bucket, method: "GET", query: "policyStatus", handle: (*call).getBucketPolicyStatus},
		{name: "GetBucketPolicy", action: "s3:GetBucketPolicy", level: bucket, method: "GET", query: "policy", handle: (*call).getBucketPolicy},
		{name: "PutBucketPolicy", action: "s3:PutBucketPolicy", level: bucket, method: "PUT", query: "policy", handle: (*call).putBucketPolicy},
		{name: "DeleteBucketPolicy", action: "s3:DeleteBucketPolicy", level: bucket, method: "DELETE", query: "policy", handle: (*call).deleteBucketPolicy},

		{name: "GetBucketAcl", action: "s3:GetBucketAcl", level: bucket, method: "GET", query: "acl", handle: (*call).getBucketACL},
		{name: "PutBucketAcl", action: "s3:PutBucketAcl", level: bucket, method: "PUT", query: "acl", handle: (*call).putBucketACL},
		{name: "GetObjectAcl", action: "s3:GetObjectAcl", level: object_, method: "GET", query: "acl", handle: (*call).getObjectACL},
		{name: "PutObjectAcl", action: "s3:PutObjectAcl", level: object_, method: "PUT", query: "acl", handle: (*call).putObjectACL},

		{name: "GetPublicAccessBlock", action: "s3:GetBucketPublicAccessBlock", level: bucket, method: "GET", query: "publicAccessBlock", handle: (*call).getPublicAccessBlock},
		{name: "PutPublicAccessBlock", action: "s3:PutBucketPublicAccessBlock", level: bucket, method: "PUT", query: "publicAccessBlock", handle: (*call).putPublicAccessBlock},
		{name: "DeletePublicAccessBlock", action: "s3:PutBucketPublicAccessBlock", level: bucket, method: "DELETE", query: "publicAccessBlock", handle: (*call).deletePublicAccessBlock},

		{name: "GetBucketOwnershipControls", action: "s3:GetBucketOwnershipControls", level: bucket, method: "GET", query: "ownershipControls", handle: (*call).getOwnershipControls},
		{name: "PutBucketOwnershipControls", action: "s3:PutBucketOwnershipControls", level: bucket, method: "PUT", query: "ownershipControls", handle: (*call).putOwnershipControls},
		{name: "DeleteBucketOwnershipControls", action: "s3:PutBucketOwnershipControls", level: bucket, method: "DELETE", query: "ownershipControls", handle: (*call).deleteOwnershipControls},

		{name: "GetBucketCors", action: "s3:GetBucketCORS", level: bucket, method: "GET", query: "cors", handle: (*call).getCORS},
		{name: "PutBucketCors", action: "s3:PutBucketCORS", level: bucket, method: "PUT", query: "cors", handle: (*call).putCORS},
		{name: "DeleteBucketCors", action: "s3:PutBucketCORS", level: bucket, method: "DELETE", query: "cors", handle: (*call).deleteCORS},
	}
}
