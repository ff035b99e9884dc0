"""The URNs of RFC 7643 section 10, RFC 7644 section 8.2, and the older spellings that clients still send."""

CORE_USER = "urn:ietf:params:scim:schemas:core:2.0:User"
CORE_GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
ENTERPRISE_USER = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"

SCHEMA = "urn:ietf:params:scim:schemas:core:2.0:Schema"
RESOURCE_TYPE = "urn:ietf:params:scim:schemas:core:2.0:ResourceType"
SERVICE_PROVIDER_CONFIG = "urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"

LIST_RESPONSE = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
PATCH_OP = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
SEARCH_REQUEST = "urn:ietf:params:scim:api:messages:2.0:SearchRequest"
BULK_REQUEST = "urn:ietf:params:scim:api:messages:2.0:BulkRequest"
BULK_RESPONSE = "urn:ietf:params:scim:api:messages:2.0:BulkResponse"
ERROR = "urn:ietf:params:scim:api:messages:2.0:Error"

# SCIM 1.1 and draft spellings, seen in OneLogin's templates; they name no resource type of their own.
LEGACY_CORE = frozenset({"urn:scim:schemas:core:1.0", "urn:scim:schemas:core:2.0"})
LEGACY_EXTENSIONS = {
    "urn:scim:schemas:extension:enterprise:1.0": ENTERPRISE_USER,
    "urn:scim:schemas:extension:enterprise:2.0": ENTERPRISE_USER,
}
