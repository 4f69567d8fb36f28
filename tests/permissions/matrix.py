"""The matrix that is expected, written by hand. Nothing here is derived from the protos: it says what was meant.

A row is a method, a column a caller, in six groups:

    people    certificates of an administrator, an operator, a monitor, and of somebody whose roles are none of ours
    agents    the node that the request names, and another node
    services  identity, events, discovery, gpio, gateway
    nobody    the gateway carrying nothing, no certificate at all, an expired certificate (of an administrator), a revoked one
    tokens    carried by the gateway: of an administrator, an operator, a monitor, an expired one, a revoked one (both of administrators)
    carried   client certificates that the gateway verified and carries: an administrator's, that of the node named, another node's

``+`` is answered (with whatever but a refusal), ``-`` is PERMISSION_DENIED, ``u`` is UNAUTHENTICATED, ``x`` gets no connection.
"""

CALLERS = (
    *("admin", "operator", "monitor", "nobody's role"),
    *("own agent", "other agent"),
    *("svc/identity", "svc/events", "svc/discovery", "svc/gpio", "svc/gateway"),
    *("gateway alone", "no certificate", "expired", "revoked"),
    *("token admin", "token operator", "token monitor", "token expired", "token revoked"),
    *("carried admin", "carried own agent", "carried other agent"),
)

OURS = """
picontroller.v1.IdentityService     people agents services nobody tokens carried
    CreateJoinToken                   +---    --    -----    uxuu  +--uu   +--
    ListJoinTokens                    +---    --    -----    uxuu  +--uu   +--
    RevokeJoinToken                   +---    --    -----    uxuu  +--uu   +--
    IssueCertificate                  ++++    ++    +++++    +xuu  +++uu   +++
    RenewCertificate                  +++-    ++    +++++    uxuu  ---uu   +++
    ListCertificates                  +---    --    -----    uxuu  +--uu   +--
    GetTrustBundle                    +++-    ++    +++++    uxuu  +++uu   +++
    WatchTrust                        ----    ++    +++++    uxuu  ---uu   -++
    AcknowledgeTrust                  ----    ++    +++++    uxuu  ---uu   -++
    RevokeCertificate                 +---    --    --+--    uxuu  +--uu   +--
    GetAuthority                      +---    --    -----    uxuu  +--uu   +--
    RotateAuthority                   +---    --    -----    uxuu  +--uu   +--
    CreateApiToken                    +---    --    -----    uxuu  +--uu   +--
    ListApiTokens                     +---    --    -----    uxuu  +--uu   +--
    RevokeApiToken                    +---    --    -----    uxuu  +--uu   +--
    WhoAmI                            +++-    ++    +++++    uxuu  +++uu   +++

picontroller.v1.EventService        people agents services nobody tokens carried
    Publish                           ----    --    +++++    uxuu  ---uu   ---
    PublishStream                     ----    --    +++++    uxuu  ---uu   ---
    Subscribe                         +++-    --    +++++    uxuu  +++uu   +--
    ListEvents                        +++-    --    +++++    uxuu  +++uu   +--

picontroller.v1.DiscoveryService    people agents services nobody tokens carried
    ListNodes                         +++-    --    ---+-    uxuu  +++uu   +--
    GetNode                           +++-    +-    ---+-    uxuu  +++uu   ++-
    UpdateNode                        +---    --    -----    uxuu  +--uu   +--
    DeleteNode                        +---    --    -----    uxuu  +--uu   +--
    RegisterNode                      ----    +-    -----    uxuu  ---uu   -+-
    ReportHealth                      ----    +-    -----    uxuu  ---uu   -+-
    UnregisterNode                    ----    +-    -----    uxuu  ---uu   -+-
    WatchNodes                        +++-    --    ---+-    uxuu  +++uu   +--

picontroller.v1.GpioService         people agents services nobody tokens carried
    ListGpioResources                 +++-    --    -----    uxuu  +++uu   +--
    CreateGpioResource                ++--    --    -----    uxuu  ++-uu   +--
    GetGpioResource                   +++-    --    -----    uxuu  +++uu   +--
    UpdateGpioResource                ++--    --    -----    uxuu  ++-uu   +--
    DeleteGpioResource                ++--    --    -----    uxuu  ++-uu   +--
    ReadPins                          +++-    --    -----    uxuu  +++uu   +--
    WritePins                         ++--    --    -----    uxuu  ++-uu   +--
    WatchEdges                        +++-    --    -----    uxuu  +++uu   +--

picontroller.v1.AuditService        people agents services nobody tokens carried
    ListAuditRecords                  +---    --    -----    uxuu  +--uu   +--
    WatchAuditRecords                 +---    --    -----    uxuu  +--uu   +--
    VerifyAuditLog                    +---    --    -----    uxuu  +--uu   +--

picontroller.v1.NodeAgentService    people agents services nobody tokens carried
    GetSystemMetrics                  ----    --    --++-    uxuu  uuuuu   uuu
    StreamSystemMetrics               ----    --    --++-    uxuu  uuuuu   uuu
    ControlGPIO                       ----    --    ---+-    uxuu  uuuuu   uuu
    WatchEdges                        ----    --    ---+-    uxuu  uuuuu   uuu
    HealthCheck                       ----    --    --++-    uxuu  uuuuu   uuu
    GetCapabilities                   ----    --    --++-    uxuu  uuuuu   uuu
"""

# What every server of a service has beside its own methods.
FOREIGN = """
grpc.health.v1.Health               people agents services nobody tokens carried
    Check                             +++-    ++    +++++    uxuu  +++uu   +++
    List                              +++-    ++    +++++    uxuu  +++uu   +++
    Watch                             +++-    ++    +++++    uxuu  +++uu   +++

grpc.reflection.v1.ServerReflection people agents services nobody tokens carried
    ServerReflectionInfo              +++-    ++    +++++    uxuu  +++uu   +++

grpc.reflection.v1alpha.ServerReflection people agents services nobody tokens carried
    ServerReflectionInfo              +++-    ++    +++++    uxuu  +++uu   +++

grpc.channelz.v1.Channelz           people agents services nobody tokens carried
    GetTopChannels                    +---    --    -----    uxuu  +--uu   +--
    GetServers                        +---    --    -----    uxuu  +--uu   +--
    GetServer                         +---    --    -----    uxuu  +--uu   +--
    GetServerSockets                  +---    --    -----    uxuu  +--uu   +--
    GetChannel                        +---    --    -----    uxuu  +--uu   +--
    GetSubchannel                     +---    --    -----    uxuu  +--uu   +--
    GetSocket                         +---    --    -----    uxuu  +--uu   +--
"""

# The same at an agent, which the gateway has no business with.
FOREIGN_AT_AGENTS = """
grpc.health.v1.Health               people agents services nobody tokens carried
    Check                             +++-    ++    +++++    uxuu  uuuuu   uuu
    List                              +++-    ++    +++++    uxuu  uuuuu   uuu
    Watch                             +++-    ++    +++++    uxuu  uuuuu   uuu

grpc.reflection.v1.ServerReflection people agents services nobody tokens carried
    ServerReflectionInfo              +++-    ++    +++++    uxuu  uuuuu   uuu

grpc.reflection.v1alpha.ServerReflection people agents services nobody tokens carried
    ServerReflectionInfo              +++-    ++    +++++    uxuu  uuuuu   uuu

grpc.channelz.v1.Channelz           people agents services nobody tokens carried
    GetTopChannels                    +---    --    -----    uxuu  uuuuu   uuu
    GetServers                        +---    --    -----    uxuu  uuuuu   uuu
    GetServer                         +---    --    -----    uxuu  uuuuu   uuu
    GetServerSockets                  +---    --    -----    uxuu  uuuuu   uuu
    GetChannel                        +---    --    -----    uxuu  uuuuu   uuu
    GetSubchannel                     +---    --    -----    uxuu  uuuuu   uuu
    GetSocket                         +---    --    -----    uxuu  uuuuu   uuu
"""

# The gateway merges the audit logs of all services and asks each as the caller whose proof it carries. Of a caller that comes to its socket
# without Envoy it has none to carry: it gets as far as the question. (That of WatchAuditRecords is no good here, which is said before.)
AT_GATEWAY = """
picontroller.v1.AuditService        people agents services nobody tokens carried
    ListAuditRecords                  u---    --    -----    uxuu  +--uu   +--
    WatchAuditRecords                 +---    --    -----    uxuu  +--uu   +--
    VerifyAuditLog                    u---    --    -----    uxuu  +--uu   +--
"""

Row = dict[str, str]


def parsed(table: str) -> dict[str, Row]:
    """Return the rows of a table: ``package.Service/Method`` to what each caller gets."""
    rows: dict[str, Row] = {}
    service = ""
    for line in filter(None, table.splitlines()):
        name, *groups = line.split()
        if not line.startswith(" "):
            service = name
            continue
        signs = "".join(groups)
        assert len(signs) == len(CALLERS), f"{service}/{name} has {len(signs)} columns"
        assert f"{service}/{name}" not in rows, f"{service}/{name} stands there twice"
        rows[f"{service}/{name}"] = dict(zip(CALLERS, signs, strict=True))
    return rows
