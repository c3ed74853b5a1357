package s3api

import (
	"net/netip"
	"testing"
)

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

const aclHead = `<AccessControlPolicy><Owner><ID>{ann}</ID></Owner><AccessControlList>`

func aclGrant(kind, element, value, permission string) string {
	return `<Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="` + kind + `"><` + element + `>` + value + `</` + element +
		`></Grantee><Permission>` + permission + `</Permission></Grant>`
}

const aclTail = `</AccessControlList></AccessControlPolicy>`

// TestACLs opens buckets and objects by access control lists, where the bucket's ownership lets them count.
func TestACLs(t *testing.T) {
	a := newAccessRig(t, nil)
	const writer = "X-Amz-Object-Ownership: ObjectWriter\n"
	a.play(t, []step{
		{who: "ann", method: "PUT", path: "/shut", want: ok},
		{who: "ann", method: "PUT", path: "/shut?acl", header: "X-Amz-Acl: public-read", want: "400 AccessControlListNotSupported"},
		{who: "ann", method: "PUT", path: "/shut/k", header: "X-Amz-Acl: public-read", body: "x", want: "400 AccessControlListNotSupported"},
		{who: "ann", method: "PUT", path: "/shut/k", header: `X-Amz-Grant-Read: id="{ben}"`, body: "x", want: "400 AccessControlListNotSupported"},
		{who: "ann", method: "PUT", path: "/shut/k", header: "X-Amz-Acl: bucket-owner-full-control", body: "x", want: ok},
		{who: "ann", method: "PUT", path: "/other", header: "X-Amz-Acl: public-read", want: "400 InvalidBucketAclWithObjectOwnership"},
		{who: "ann", method: "GET", path: "/shut?ownershipControls", want: ok, has: "BucketOwnerEnforced"},

		{who: "ann", method: "PUT", path: "/open", header: writer + "X-Amz-Acl: public-read", want: ok},
		{who: "ann", method: "GET", path: "/open?ownershipControls", want: ok, has: "ObjectWriter"},
		{who: "ann", method: "GET", path: "/open?acl", want: ok, has: "<URI>http://acs.amazonaws.com/groups/global/AllUsers</URI></Grantee><Permission>READ</Permission>"},
		{who: "ann", method: "GET", path: "/open?policyStatus", want: ok, has: "<IsPublic>true</IsPublic>"},
		{who: "ann", method: "PUT", path: "/open/private", body: "p", want: ok},
		{who: "ann", method: "PUT", path: "/open/public", body: "q", header: "X-Amz-Acl: public-read", want: ok},
		{who: "ann", method: "PUT", path: "/open/known", body: "r", header: "X-Amz-Acl: authenticated-read", want: ok},
		{who: "ann", method: "PUT", path: "/open/bens", body: "s", header: `X-Amz-Grant-Read: id="{ben}", emailAddress="rdr@example.com"`, want: ok},
		{method: "GET", path: "/open", want: ok, has: "<Key>private</Key>"},
		{method: "GET", path: "/open/public", want: ok, has: "q"},
		{method: "GET", path: "/open/private", want: forbidden},
		{method: "GET", path: "/open/known", want: forbidden},
		{method: "GET", path: "/open/absent", want: "404 NoSuchKey"},
		{method: "PUT", path: "/open/new", body: "x", want: forbidden},
		{who: "ben", method: "GET", path: "/open/known", want: ok, has: "r"},
		{who: "ben", method: "GET", path: "/open/bens", want: ok, has: "s"},
		{who: "rdr", method: "GET", path: "/open/bens", want: ok, has: "s"},
		{who: "ben", method: "GET", path: "/open/private", want: forbidden},
		{who: "ben", method: "GET", path: "/open/bens?acl", want: forbidden},
		{who: "ann", method: "GET", path: "/open/bens?acl", want: ok, has: "<ID>{ben}</ID><DisplayName>ben</DisplayName></Grantee><Permission>READ</Permission>"},

		{who: "ann", method: "PUT", path: "/open/private?acl", body: aclHead + aclGrant("CanonicalUser", "ID", "{ann}", "FULL_CONTROL") +
			aclGrant("CanonicalUser", "ID", "{ben}", "READ_ACP") + aclTail, want: ok},
		{who: "ben", method: "GET", path: "/open/private?acl", want: ok, has: "READ_ACP"},
		{who: "ben", method: "GET", path: "/open/private", want: forbidden},
		{who: "ben", method: "PUT", path: "/open/private?acl", header: "X-Amz-Acl: public-read", want: forbidden},
		{who: "ann", method: "PUT", path: "/open/private?acl", header: "X-Amz-Acl: private", want: ok},
		{who: "ben", method: "GET", path: "/open/private?acl", want: forbidden},

		{who: "ann", method: "PUT", path: "/open?acl", body: aclHead + aclGrant("Group", "URI", "http://acs.amazonaws.com/groups/global/AllUsers", "WRITE") + aclTail, want: ok},
		{method: "PUT", path: "/open/from-nobody", body: "x", want: ok},
		{method: "GET", path: "/open", want: forbidden},
		{who: "ann", method: "GET", path: "/open/from-nobody", want: forbidden},
		{who: "ben", method: "PUT", path: "/open/from-ben", body: "b", want: ok},
		{who: "ben", method: "GET", path: "/open/from-ben", want: ok, has: "b"},
		{who: "ann", method: "GET", path: "/open/from-ben", want: forbidden},
		{who: "ben", method: "GET", path: "/open/from-ben?acl", want: ok, has: "<Owner><ID>{ben}</ID>"},
		{who: "ben", method: "PUT", path: "/open/from-ben?acl", header: "X-Amz-Acl: bucket-owner-read", want: ok},
		{who: "ann", method: "GET", path: "/open/from-ben", want: ok, has: "b"},
		{who: "ann", method: "GET", path: "/open/from-ben?acl", want: forbidden},
		{who: "ben", method: "PUT", path: "/open/full", body: "b", header: "X-Amz-Acl: bucket-owner-full-control", want: ok},
		{who: "ann", method: "GET", path: "/open/full?acl", want: ok, has: "<Owner><ID>{ben}</ID>"},
		{who: "ann", method: "DELETE", path: "/open/from-nobody", want: gone},

		{who: "ann", method: "PUT", path: "/open?ownershipControls", body: "<OwnershipControls><Rule><ObjectOwnership>BucketOwnerPreferred</ObjectOwnership></Rule></OwnershipControls>", want: ok},
		{who: "ben", method: "PUT", path: "/open/given", body: "b", header: "X-Amz-Acl: bucket-owner-full-control", want: ok},
		{who: "ann", method: "GET", path: "/open/given?acl", want: ok, has: "<Owner><ID>{ann}</ID>"},
		{who: "ann", method: "PUT", path: "/open?ownershipControls", body: "<OwnershipControls><Rule><ObjectOwnership>Nobody</ObjectOwnership></Rule></OwnershipControls>", want: "400 MalformedXML"},
		{who: "ann", method: "PUT", path: "/open?acl", header: "X-Amz-Acl: public-read-write", want: ok},
		{who: "ann", method: "PUT", path: "/open?ownershipControls", body: "<OwnershipControls><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule></OwnershipControls>", want: "400 InvalidBucketAclWithObjectOwnership"},
		{who: "ann", method: "PUT", path: "/open?acl", header: "X-Amz-Acl: private", want: ok},
		{who: "ann", method: "PUT", path: "/open?ownershipControls", body: "<OwnershipControls><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule></OwnershipControls>", want: ok},
		{method: "GET", path: "/open/public", want: forbidden},
		{who: "ann", method: "GET", path: "/open/from-ben", want: ok, has: "b"},
		{who: "ben", method: "GET", path: "/open/from-ben", want: forbidden},
		{who: "ann", method: "DELETE", path: "/open?ownershipControls", want: gone},
		{who: "ann", method: "GET", path: "/open?ownershipControls", want: "404 OwnershipControlsNotFoundError"},
		{method: "GET", path: "/open/public", want: ok, has: "q"},

		{who: "ann", method: "PUT", path: "/open/k", body: "x", header: "X-Amz-Acl: nonsense", want: "400 InvalidArgument"},
		{who: "ann", method: "PUT", path: "/open/k", body: "x", header: "X-Amz-Acl: private\n" + `X-Amz-Grant-Read: id="{ben}"`, want: "400 InvalidRequest"},
		{who: "ann", method: "PUT", path: "/open/k", body: "x", header: `X-Amz-Grant-Read: id="nobody"`, want: "400 InvalidArgument"},
		{who: "ann", method: "PUT", path: "/open/k", body: "x", header: `X-Amz-Grant-Read: uri="http://example.com"`, want: "400 InvalidArgument"},
		{who: "ann", method: "PUT", path: "/open/k", body: "x", header: `X-Amz-Grant-Read: emailAddress="x@example.com"`, want: "400 UnresolvableGrantByEmailAddress"},
		{who: "ann", method: "PUT", path: "/open?acl", want: "400 MissingSecurityHeader"},
		{who: "ann", method: "PUT", path: "/open?acl", body: "<AccessControlPolicy/>", want: "400 MalformedACLError"},
		{who: "ann", method: "PUT", path: "/open?acl", body: aclHead + aclGrant("CanonicalUser", "ID", "{ann}", "ALL") + aclTail, want: "400 MalformedACLError"},
		{who: "ann", method: "PUT", path: "/open?acl", body: "<AccessControlPolicy><Owner><ID>{ben}</ID></Owner><AccessControlList>" + aclTail, want: forbidden},
		{who: "ann", method: "PUT", path: "/open/absent?acl", header: "X-Amz-Acl: private", want: "404 NoSuchKey"},
	})
}

// TestPublicAccessBlock tries each of the four switches.
func TestPublicAccessBlock(t *testing.T) {
	a := newAccessRig(t, nil)
	block := func(which string) step {
		return step{who: "ann", method: "PUT", path: "/anns?publicAccessBlock", want: ok,
			body: "<PublicAccessBlockConfiguration><" + which + ">true</" + which + "></PublicAccessBlockConfiguration>"}
	}
	open := step{who: "ann", method: "PUT", path: "/anns?policy", want: gone,
		body: policyText(`{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::anns/open"}`)}
	refused := open
	refused.want = forbidden
	a.play(t, []step{
		{who: "ann", method: "PUT", path: "/anns", header: "X-Amz-Object-Ownership: ObjectWriter", want: ok},
		{who: "ann", method: "GET", path: "/anns?publicAccessBlock", want: "404 NoSuchPublicAccessBlockConfiguration"},
		{who: "ann", method: "PUT", path: "/anns/k", body: "x", header: "X-Amz-Acl: public-read", want: ok},
		{who: "ann", method: "PUT", path: "/anns/open", body: "x", want: ok},
		open,
		{method: "GET", path: "/anns/open", want: ok},
		block("IgnorePublicAcls"),
		{who: "ann", method: "GET", path: "/anns?publicAccessBlock", want: ok, has: "<IgnorePublicAcls>true</IgnorePublicAcls><BlockPublicPolicy>false</BlockPublicPolicy>"},
		{method: "GET", path: "/anns/k", want: forbidden},
		{method: "GET", path: "/anns/open", want: ok},
		block("RestrictPublicBuckets"),
		{method: "GET", path: "/anns/k", want: ok},
		{method: "GET", path: "/anns/open", want: forbidden},
		{who: "ben", method: "GET", path: "/anns/open", want: forbidden},
		{who: "ann", method: "GET", path: "/anns/open", want: ok},
		block("BlockPublicAcls"),
		{method: "GET", path: "/anns/k", want: ok},
		{who: "ann", method: "PUT", path: "/anns/k2", body: "x", header: "X-Amz-Acl: public-read", want: forbidden},
		{who: "ann", method: "PUT", path: "/anns/k?acl", header: "X-Amz-Acl: authenticated-read", want: forbidden},
		{who: "ann", method: "PUT", path: "/anns?acl", header: "X-Amz-Acl: public-read", want: forbidden},
		block("BlockPublicPolicy"),
		refused,
		{method: "GET", path: "/anns/open", want: ok},
		{who: "ann", method: "DELETE", path: "/anns?publicAccessBlock", want: gone},
		open,
	})
}

// TestCORS answers browsers as the rules say.
func TestCORS(t *testing.T) {
	a := newAccessRig(t, nil)
	const rules = "<CORSConfiguration><CORSRule><AllowedOrigin>http://*.example.com</AllowedOrigin><AllowedMethod>GET</AllowedMethod>" +
		"<AllowedHeader>x-amz-*</AllowedHeader><ExposeHeader>ETag</ExposeHeader><MaxAgeSeconds>60</MaxAgeSeconds></CORSRule>" +
		"<CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>HEAD</AllowedMethod></CORSRule></CORSConfiguration>"
	sum := "Content-Md5: " + md5Of(rules)
	a.play(t, []step{
		{who: "ann", method: "PUT", path: "/anns", want: ok},
		{who: "ann", method: "PUT", path: "/anns/k", body: "x", want: ok},
		{who: "ann", method: "GET", path: "/anns?cors", want: "404 NoSuchCORSConfiguration"},
		{method: "OPTIONS", path: "/anns/k", header: "Origin: http://a.example.com\nAccess-Control-Request-Method: GET", want: "403 AccessForbidden"},
		{who: "ann", method: "PUT", path: "/anns?cors", body: rules, header: sum, want: ok},
		{who: "ann", method: "GET", path: "/anns?cors", want: ok, has: "<AllowedOrigin>http://*.example.com</AllowedOrigin>"},
		{method: "OPTIONS", path: "/anns/k", header: "Origin: http://a.example.com\nAccess-Control-Request-Method: GET", want: ok},
		{method: "OPTIONS", path: "/anns/k", header: "Origin: http://a.example.com\nAccess-Control-Request-Method: GET\nAccess-Control-Request-Headers: X-Amz-Date", want: ok},
		{method: "OPTIONS", path: "/anns/k", header: "Origin: http://a.example.com\nAccess-Control-Request-Method: GET\nAccess-Control-Request-Headers: content-type", want: "403 AccessForbidden"},
		{method: "OPTIONS", path: "/anns/k", header: "Origin: http://other.com\nAccess-Control-Request-Method: GET", want: "403 AccessForbidden"},
		{method: "OPTIONS", path: "/anns/k", header: "Origin: http://other.com\nAccess-Control-Request-Method: HEAD", want: ok},
		{method: "OPTIONS", path: "/anns/k", header: "Access-Control-Request-Method: GET", want: "400 BadRequest"},
		{method: "OPTIONS", path: "/anns/k", header: "Origin: http://a.example.com", want: "400 BadRequest"},
		{method: "OPTIONS", path: "/nobodys/k", header: "Origin: http://a.example.com\nAccess-Control-Request-Method: GET", want: "404 NoSuchBucket"},
		{who: "ann", method: "PUT", path: "/anns?cors", body: "<CORSConfiguration/>", header: "Content-Md5: " + md5Of("<CORSConfiguration/>"), want: "400 MalformedXML"},
	})
	for _, c := range []struct{ origin, allow, credentials, expose string }{
		{"http://a.example.com", "http://a.example.com", "true", "ETag"},
		{"http://other.com", "", "", ""},
	} {
		for _, who := range []string{"annKEY", "-"} { // an error's answer has the headers, too
			h := a.do(req{method: "GET", path: "/anns/k", key: who, header: []string{"Origin", c.origin}}).header
			if h.Get("Access-Control-Allow-Origin") != c.allow || h.Get("Access-Control-Allow-Credentials") != c.credentials ||
				h.Get("Access-Control-Expose-Headers") != c.expose {
				t.Errorf("%s as %s: got %v", c.origin, who, h)
			}
		}
	}
	if h := a.do(req{method: "HEAD", path: "/anns/k", key: "annKEY", header: []string{"Origin", "http://other.com"}}).header; h.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("any origin: got %v", h)
	}
	a.play(t, []step{{who: "ann", method: "DELETE", path: "/anns?cors", want: gone}, {who: "ann", method: "GET", path: "/anns?cors", want: "404 NoSuchCORSConfiguration"}})
}
