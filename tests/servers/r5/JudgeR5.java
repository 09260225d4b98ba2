// HL7's R5 validator as HAPI FHIR packs it, offline: a path on standard input, a line of JSON on standard output.
// Run from its source beside the jars of the R4 validator and hapi-fhir-validation-resources-r5; see tests/conftest.py.

import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.context.support.DefaultProfileValidationSupport;
import ca.uhn.fhir.context.support.IValidationSupport;
import ca.uhn.fhir.validation.FhirValidator;
import ca.uhn.fhir.validation.SingleValidationMessage;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.hl7.fhir.common.hapi.validation.support.CommonCodeSystemsTerminologyService;
import org.hl7.fhir.common.hapi.validation.support.InMemoryTerminologyServerValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.SnapshotGeneratingValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.UnknownCodeSystemWarningValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.ValidationSupportChain;
import org.hl7.fhir.common.hapi.validation.validator.FhirInstanceValidator;
import org.hl7.fhir.r5.utils.validation.constants.BestPracticeWarningLevel;

class JudgeR5 {
  public static void main(String[] arguments) throws Exception {
    FhirValidator validator = validator(FhirContext.forR5());
    ObjectMapper json = new ObjectMapper();
    BufferedReader paths = new BufferedReader(new InputStreamReader(System.in));
    for (String path = paths.readLine(); path != null; path = paths.readLine()) {
      System.out.println(json.writeValueAsString(judged(validator, Files.readString(Path.of(path.strip())))));
      System.out.flush();
    }
  }

  static FhirValidator validator(FhirContext context) {
    var unknownSystems = new UnknownCodeSystemWarningValidationSupport(context);
    unknownSystems.setNonExistentCodeSystemSeverity(IValidationSupport.IssueSeverity.WARNING); // LOINC is not here
    var inspector = new FhirInstanceValidator(new ValidationSupportChain(
        new DefaultProfileValidationSupport(context),
        new SnapshotGeneratingValidationSupport(context),
        new CommonCodeSystemsTerminologyService(context),
        new InMemoryTerminologyServerValidationSupport(context),
        unknownSystems));
    inspector.setAnyExtensionsAllowed(true);
    inspector.setAssumeValidRestReferences(true); // so that the type a reference names is checked
    inspector.setBestPracticeWarningLevel(BestPracticeWarningLevel.Ignore);
    return context.newValidator().registerValidatorModule(inspector);
  }

  static Map<String, Object> judged(FhirValidator validator, String bundle) {
    Map<String, Object> found = new LinkedHashMap<>(Map.of("fatal", 0, "error", 0, "dangling_urn_refs", 0));
    List<Map<String, String>> issues = new ArrayList<>();
    for (SingleValidationMessage message : validator.validateWithResult(bundle).getMessages()) {
      String severity = message.getSeverity().getCode();
      String id = String.valueOf(message.getMessageId());
      if (id.equals("Bundle_BUNDLE_Not_Local")) {
        found.merge("dangling_urn_refs", 1, (one, other) -> (Integer) one + (Integer) other);
      }
      if (severity.equals("error") || severity.equals("fatal")) {
        found.merge(severity, 1, (one, other) -> (Integer) one + (Integer) other);
        issues.add(Map.of("severity", severity, "id", id, "at", String.valueOf(message.getLocationString()),
            "text", String.valueOf(message.getMessage())));
      }
    }
    found.put("issues", issues);
    return found;
  }
}
