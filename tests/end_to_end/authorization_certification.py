"""The rows of the authorization matrix for certification and files of services."""

from __future__ import annotations

from gem.marketplace.v1 import certification_pb2 as certification
from gem.marketplace.v1 import service_content_pb2 as content
from gemarket.administration import new_request_id
from tests.end_to_end.callers import FORBIDDEN, HIDDEN, INVALID, NOT_NOW, OK, row

_SERVICES = "/gem.marketplace.v1.ServiceRegistryService"
#: A run, an upload and a file that nobody has.
_NOBODYS = "no-such-thing"

_ROWS = {
    # Of the hidden service, whose endpoint is asked; the later ones find the first one's run.
    "RunConformance": row(
        lambda t: certification.RunConformanceRequest(
            request_id=new_request_id(),
            service_id=t.hidden_service_id,
            include_side_effects=True,
        ),
        HIDDEN,
        provider=OK,
        seller=HIDDEN,
        business=FORBIDDEN,
        technical=FORBIDDEN,
    ),
    "GetConformanceReport": row(
        lambda _: certification.GetConformanceReportRequest(run_id=_NOBODYS),
        HIDDEN,
        business=HIDDEN,
        technical=HIDDEN,
        users=HIDDEN,
    ),
    **{
        name: row(
            lambda t, kind=kind: kind(service_id=t.service_id),  # type: ignore[misc]  # a default binds
            HIDDEN,
            provider=OK,
            business=OK,
            technical=OK,
            users=HIDDEN,
        )
        for name, kind in {
            "ListConformanceReports": certification.ListConformanceReportsRequest,
            "ListCertificationEvents": certification.ListCertificationEventsRequest,
            "ListServiceFileEvents": content.ListServiceFileEventsRequest,
        }.items()
    },
    "CertifyService": row(
        lambda _: certification.CertifyServiceRequest(request_id=new_request_id(), run_id=_NOBODYS),
        FORBIDDEN,
        business=FORBIDDEN,
        technical=HIDDEN,
    ),
    "RevokeCertification": row(
        lambda t: certification.RevokeCertificationRequest(
            request_id=new_request_id(), service_id=t.service_id, reason="r"
        ),
        FORBIDDEN,
        business=FORBIDDEN,
        technical=NOT_NOW,
    ),
    **{
        name: row(
            lambda t, kind=kind: kind(service_id=t.hidden_service_id),  # type: ignore[misc]  # a default binds
            HIDDEN,
            provider=OK,
            business=OK,
            technical=OK,
            users=HIDDEN,
        )
        for name, kind in {
            "GetCertification": certification.GetCertificationRequest,
            "ListServiceFiles": content.ListServiceFilesRequest,
            "DownloadServiceDocuments": content.DownloadServiceDocumentsRequest,
        }.items()
    },
    "BeginServiceFileUpload": row(
        lambda t: content.BeginServiceFileUploadRequest(
            request_id=new_request_id(),
            service_id=t.service_id,
            name="page.html",
            kind=content.SERVICE_FILE_KIND_MANUAL,
            media_type="text/html",
            size_bytes=1,
            digest=bytes(32),
        ),
        HIDDEN,
        provider=INVALID,
        seller=HIDDEN,
        business=FORBIDDEN,
        technical=FORBIDDEN,
    ),
    "UploadServiceFile": row(
        lambda _: content.UploadServiceFileRequest(request_id=new_request_id(), file_id=_NOBODYS),
        HIDDEN,
        seller=HIDDEN,
        business=FORBIDDEN,
        technical=FORBIDDEN,
    ),
    **{
        name: row(
            lambda _, kind=kind: kind(file_id=_NOBODYS),  # type: ignore[misc]  # a default binds
            HIDDEN,
            business=HIDDEN,
            technical=HIDDEN,
            users=HIDDEN,
        )
        for name, kind in {
            "GetServiceFileUpload": content.GetServiceFileUploadRequest,
            "DownloadServiceFile": content.DownloadServiceFileRequest,
        }.items()
    },
    "DeleteServiceFile": row(
        lambda _: content.DeleteServiceFileRequest(request_id=new_request_id(), file_id=_NOBODYS),
        HIDDEN,
        seller=HIDDEN,
        business=FORBIDDEN,
        technical=HIDDEN,
    ),
    # A header without a file behind it.
    "UploadServiceSpecification": row(
        lambda t: content.UploadServiceSpecificationRequest(
            request_id=new_request_id(),
            header=content.ServiceSpecificationHeader(service_id=t.service_id, description="d"),
        ),
        HIDDEN,
        provider=INVALID,
        seller=HIDDEN,
        business=FORBIDDEN,
        technical=FORBIDDEN,
    ),
}
CERTIFICATION_MATRIX = {f"{_SERVICES}/{name}": each for name, each in _ROWS.items()}
